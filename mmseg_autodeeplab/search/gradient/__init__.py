"""Search by gradient: the architecture step, its hook and its terms."""

from .arch_search_hook import ArchSearchHook
from .search_ema import SearchEMA

__all__ = ['ArchSearchHook', 'SearchEMA']
