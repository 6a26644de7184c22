"""What the runner needs for a search and a retraining."""

from .hooks import ArchSearchHook, ScheduledDropPathHook

__all__ = ['ArchSearchHook', 'ScheduledDropPathHook']
