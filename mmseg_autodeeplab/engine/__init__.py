"""What the runner needs for a search and a retraining."""

from .hooks import ArchSearchHook, ExactResumeHook, ScheduledDropPathHook

__all__ = ['ArchSearchHook', 'ExactResumeHook', 'ScheduledDropPathHook']
