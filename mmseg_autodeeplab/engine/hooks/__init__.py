"""Hooks."""

from .checkpoint_room_hook import CheckpointRoomHook
from .drop_path_hook import ScheduledDropPathHook
from .finite_loss_hook import FiniteLossHook, finite_loss_hooks
from .sync_statistics_hook import SyncStatisticsHook

__all__ = [
    'CheckpointRoomHook',
    'FiniteLossHook',
    'ScheduledDropPathHook',
    'SyncStatisticsHook',
    'finite_loss_hooks',
]
