"""What the runner needs for a search and a retraining."""

from .atomic_backend import AtomicBackend
from .bare_model import bare_model
from .hooks import (
    CheckpointRoomHook,
    ExactResumeHook,
    FiniteLossHook,
    ScheduledDropPathHook,
)

__all__ = [
    'AtomicBackend',
    'CheckpointRoomHook',
    'ExactResumeHook',
    'FiniteLossHook',
    'ScheduledDropPathHook',
    'bare_model',
]
