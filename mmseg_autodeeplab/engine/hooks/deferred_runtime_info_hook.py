"""The outputs of training, read when they are written."""

from typing import Any, Optional

from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from .checkpoint_due import checkpoint_is_due
from .log_due import log_is_due
from .scalars import as_numbers, without_graphs


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """MMEngine's ``RuntimeInfoHook``, but no iteration waits for its losses.

    The stock hook reads all that a training iteration puts out, such as its
    losses, off the device at once. This one keeps it there until a
    ``LoggerHook`` writes a line, a checkpoint, which has the history, may
    follow, or training ends; then the message hub is given the values of all
    iterations, one after the other. So lines and checkpoints hold the same
    numbers.

    It takes the place of the stock hook under the key ``runtime_info``.

    Example:
        >>> default_hooks = dict(
        ...     runtime_info=dict(type='DeferredRuntimeInfoHook'))
    """

    def __init__(self) -> None:
        self._outputs: list[dict] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Keep the outputs; hand over all of them if somebody reads them."""
        self._outputs.append(without_graphs(outputs or {}))
        if log_is_due(runner, batch_idx) or checkpoint_is_due(runner):
            self._hand_over(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Hand over before a checkpoint by epochs."""
        self._hand_over(runner)

    def before_val(self, runner: Runner) -> None:
        """Hand over before a checkpoint of the best validation."""
        self._hand_over(runner)
        super().before_val(runner)

    def _hand_over(self, runner: Runner) -> None:
        outputs, self._outputs = self._outputs, []
        for values in as_numbers(outputs):
            super().after_train_iter(runner, 0, outputs=values)
