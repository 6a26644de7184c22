"""Hooks."""

from .arch_search_hook import ArchSearchHook
from .drop_path_hook import ScheduledDropPathHook
from .exact_resume_hook import ExactResumeHook

__all__ = ['ArchSearchHook', 'ExactResumeHook', 'ScheduledDropPathHook']
