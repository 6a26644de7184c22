"""Hooks."""

from .checkpoint_room_hook import CheckpointRoomHook
from .drop_path_hook import ScheduledDropPathHook
from .exact_resume_hook import ExactResumeHook
from .finite_loss_hook import FiniteLossHook

__all__ = [
    'CheckpointRoomHook',
    'ExactResumeHook',
    'FiniteLossHook',
    'ScheduledDropPathHook',
]
