"""What the runner needs for a search and a retraining."""

from .atomic_backend import AtomicBackend
from .hooks import (
    ArchSearchHook,
    CheckpointRoomHook,
    DataGuardHook,
    DeferredRuntimeInfoHook,
    ExactResumeHook,
    FiniteLossHook,
    ScheduledDropPathHook,
    SearchVisualizationHook,
)
from .search_ema import SearchEMA

__all__ = [
    'ArchSearchHook',
    'AtomicBackend',
    'CheckpointRoomHook',
    'DataGuardHook',
    'DeferredRuntimeInfoHook',
    'ExactResumeHook',
    'FiniteLossHook',
    'ScheduledDropPathHook',
    'SearchEMA',
    'SearchVisualizationHook',
]
