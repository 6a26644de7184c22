"""Hooks."""

from .checkpoint_room_hook import CheckpointRoomHook
from .data_guard_hook import DataGuardHook
from .drop_path_hook import ScheduledDropPathHook
from .exact_resume_hook import ExactResumeHook
from .finite_loss_hook import FiniteLossHook

__all__ = [
    'CheckpointRoomHook',
    'DataGuardHook',
    'ExactResumeHook',
    'FiniteLossHook',
    'ScheduledDropPathHook',
]
