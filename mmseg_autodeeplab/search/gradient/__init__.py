"""Search by gradient: the architecture step, its hook and its terms."""

from .arch_search_hook import ArchSearchHook
from .arch_step import ArchStep, architecture_of
from .gap_hook import DiscretizationGapHook
from .one_hot import evaluate
from .rescore import Candidate, rescore
from .search_ema import SearchEMA
from .terms import ArchTerm, CostTerm
