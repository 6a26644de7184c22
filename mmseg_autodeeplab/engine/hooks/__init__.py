"""Hooks."""

from .arch_search_hook import ArchSearchHook
from .checkpoint_room_hook import CheckpointRoomHook
from .drop_path_hook import ScheduledDropPathHook
from .finite_loss_hook import FiniteLossHook

__all__ = [
    'ArchSearchHook',
    'CheckpointRoomHook',
    'FiniteLossHook',
    'ScheduledDropPathHook',
]
