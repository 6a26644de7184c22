"""Hooks."""

from .arch_search_hook import ArchSearchHook
from .drop_path_hook import ScheduledDropPathHook
from .search_visualization_hook import SearchVisualizationHook

__all__ = [
    'ArchSearchHook',
    'ScheduledDropPathHook',
    'SearchVisualizationHook',
]
