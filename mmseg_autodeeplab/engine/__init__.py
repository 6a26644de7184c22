"""What the runner needs for a search and a retraining."""

from .hooks import ArchSearchHook, DataGuardHook, ScheduledDropPathHook

__all__ = ['ArchSearchHook', 'DataGuardHook', 'ScheduledDropPathHook']
