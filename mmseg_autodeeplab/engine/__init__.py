"""Any training, safe and repeatable; it knows no architecture."""

from .checkpoints import (
    AtomicBackend,
    CheckpointRoomHook,
    SyncStatisticsHook,
    bare_model,
    checkpoint_is_due,
)
from .drop_path import ScheduledDropPathHook
from .finite_loss import FiniteLossHook, finite_loss_hooks
from .sample_stream import SampleStream, SeededDataset, seeded_loader
from .train_loop import SeededIterBasedTrainLoop

__all__ = [
    'AtomicBackend',
    'CheckpointRoomHook',
    'FiniteLossHook',
    'SampleStream',
    'ScheduledDropPathHook',
    'SeededDataset',
    'SeededIterBasedTrainLoop',
    'SyncStatisticsHook',
    'bare_model',
    'checkpoint_is_due',
    'finite_loss_hooks',
    'seeded_loader',
]
