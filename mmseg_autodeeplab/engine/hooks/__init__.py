"""Hooks."""

from .arch_search_hook import ArchSearchHook
from .drop_path_hook import ScheduledDropPathHook

__all__ = ['ArchSearchHook', 'ScheduledDropPathHook']
