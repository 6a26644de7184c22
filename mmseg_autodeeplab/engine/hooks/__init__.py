"""Hooks."""

from .checkpoint_room_hook import CheckpointRoomHook
from .data_guard_hook import DataGuardHook
from .drop_path_hook import ScheduledDropPathHook
from .finite_loss_hook import FiniteLossHook, finite_loss_hooks
from .sync_statistics_hook import SyncStatisticsHook

__all__ = [
    'CheckpointRoomHook',
    'DataGuardHook',
    'FiniteLossHook',
    'ScheduledDropPathHook',
    'SyncStatisticsHook',
    'finite_loss_hooks',
]
