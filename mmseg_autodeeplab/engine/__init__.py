"""Any training, safe and repeatable; it knows no architecture."""

from .atomic_backend import AtomicBackend
from .bare_model import bare_model
from .checkpoint_due import checkpoint_is_due
from .hooks import (
    CheckpointRoomHook,
    DataGuardHook,
    FiniteLossHook,
    ScheduledDropPathHook,
    SyncStatisticsHook,
    finite_loss_hooks,
)
from .sample_stream import (
    NumberedSampler,
    SampleStream,
    SeededDataset,
    seeded_loader,
)
from .train_loop import SeededIterBasedTrainLoop

__all__ = [
    'AtomicBackend',
    'CheckpointRoomHook',
    'DataGuardHook',
    'FiniteLossHook',
    'NumberedSampler',
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
