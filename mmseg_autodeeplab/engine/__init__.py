"""What the runner needs for a search and a retraining."""

from .hooks import ArchSearchHook, ScheduledDropPathHook
from .search_ema import SearchEMA

__all__ = ['ArchSearchHook', 'ScheduledDropPathHook', 'SearchEMA']
