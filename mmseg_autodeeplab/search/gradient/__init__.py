"""Search by gradient: the architecture step, its hook and its terms."""

from .arch_search_hook import ArchSearchHook
from .arch_step import ArchStep
from .cost_term import CostTerm
from .regularizers import EntropyTerm, LogSumExpTerm
from .search_ema import SearchEMA
from .terms import ArchTerm
