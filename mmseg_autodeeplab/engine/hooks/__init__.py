"""Hooks."""

from .arch_search_hook import ArchSearchHook
from .checkpoint_room_hook import CheckpointRoomHook
from .data_guard_hook import DataGuardHook
from .deferred_runtime_info_hook import DeferredRuntimeInfoHook
from .drop_path_hook import ScheduledDropPathHook
from .exact_resume_hook import ExactResumeHook
from .finite_loss_hook import FiniteLossHook
from .search_visualization_hook import SearchVisualizationHook

__all__ = [
    'ArchSearchHook',
    'CheckpointRoomHook',
    'DataGuardHook',
    'DeferredRuntimeInfoHook',
    'ExactResumeHook',
    'FiniteLossHook',
    'ScheduledDropPathHook',
    'SearchVisualizationHook',
]
