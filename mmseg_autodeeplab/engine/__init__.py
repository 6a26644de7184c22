"""What the runner needs for a search and a retraining."""

from .atomic_backend import AtomicBackend
from .hooks import (
    ArchSearchHook,
    CheckpointRoomHook,
    FiniteLossHook,
    ScheduledDropPathHook,
)

__all__ = [
    'ArchSearchHook',
    'AtomicBackend',
    'CheckpointRoomHook',
    'FiniteLossHook',
    'ScheduledDropPathHook',
]
