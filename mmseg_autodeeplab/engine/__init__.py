"""What the runner needs for a search and a retraining."""

from .atomic_backend import AtomicBackend
from .bare_model import bare_model
from .hooks import (
    CheckpointRoomHook,
    DataGuardHook,
    ExactResumeHook,
    FiniteLossHook,
    ScheduledDropPathHook,
)

__all__ = [
    'AtomicBackend',
    'CheckpointRoomHook',
    'DataGuardHook',
    'ExactResumeHook',
    'FiniteLossHook',
    'ScheduledDropPathHook',
    'bare_model',
]
