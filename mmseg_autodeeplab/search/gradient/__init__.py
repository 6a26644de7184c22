"""Search by gradient: the architecture step, its hook and its terms."""

from .arch_search_hook import ArchSearchHook
from .arch_step import ArchStep, architecture_of
from .cost_term import CostTerm
from .gap_hook import DiscretizationGapHook
from .one_hot import evaluate
from .regularizers import EntropyTerm, LogSumExpTerm
from .rescore import Candidate, rescore
from .sampled_weights import SampledWeightsHook
from .search_ema import SearchEMA
from .terms import ArchTerm
