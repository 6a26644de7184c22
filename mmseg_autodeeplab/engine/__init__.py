"""Any training, safe and repeatable; it knows no architecture."""

from .checkpoints import (
    AtomicBackend,
    CheckpointRoomHook,
    SyncStatisticsHook,
    bare_model,
    checkpoint_is_due,
)
from .hooks import FiniteLossHook, ScheduledDropPathHook, finite_loss_hooks
from .resume import REPLACES, ResumeHook, changed_options, watch_resume
from .sample_stream import SampleStream, SeededDataset, seeded_loader
from .train_loop import SeededIterBasedTrainLoop, check_ends, loop_class
