"""One set of running statistics for all processes."""

from typing import Any, Optional

from mmengine.dist import all_reduce_params
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..checkpoint_due import checkpoint_is_due


@HOOKS.register_module()
class SyncStatisticsHook(Hook):
    """Take the mean of the running statistics where they are used.

    Of several processes, a checkpoint holds those of the first. So before a
    checkpoint, and before a validation, all take the mean, as at the end of
    an epoch with MMEngine's ``SyncBuffersHook``.
    """

    # After all that changes the model, and before CheckpointHook (VERY_LOW).
    priority = 80

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Take the mean before a checkpoint."""
        if checkpoint_is_due(runner):
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        """Take the mean before a validation."""
        # What is not a floating-point number is the same everywhere.
        all_reduce_params(
            (b for b in runner.model.buffers() if b.is_floating_point()),
            op='mean',
        )
