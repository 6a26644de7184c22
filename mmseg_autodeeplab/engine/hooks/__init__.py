"""Hooks."""

from .arch_search_hook import ArchSearchHook
from .data_guard_hook import DataGuardHook
from .drop_path_hook import ScheduledDropPathHook

__all__ = ['ArchSearchHook', 'DataGuardHook', 'ScheduledDropPathHook']
