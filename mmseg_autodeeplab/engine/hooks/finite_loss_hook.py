"""Stop a training whose numbers have gone wrong."""

import math
from collections import Counter
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ...errors import UserError
from .checkpoint_due import checkpoint_is_due
from .log_due import log_is_due
from .scalars import as_numbers, without_graphs


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop at a loss that is not finite, before it is saved.

    The error names the iteration, the loss, the images of the batch and the
    last good checkpoint. No checkpoint is written of weights, statistics or
    an architecture that are not finite, so the latest is always a good one.

    The losses of all iterations are looked at, but no iteration waits for
    them: they stay on the device until a line of the log, a checkpoint, a
    validation or the end of the training follows, or another hook calls
    :meth:`check`. So the error may come as many iterations late as lie
    between two lines of the log.

    Args:
        tolerance (int): How many such losses in a row, of the weights or of
            the architecture, are let pass with a warning. More than 0 makes
            sense with the loss scaler of fp16 alone, which skips these steps;
            without it, the first one spoils the weights. Defaults to 0.
    """

    # Before all that builds on the losses.
    priority = 'HIGH'

    def __init__(self, tolerance: int = 0) -> None:
        self.tolerance = tolerance
        self._watched: list[tuple] = []
        self._in_a_row: Counter = Counter()
        self._last_good: Optional[str] = None

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Watch the weights' losses; look at all where values are read."""
        # While one is saved, this is its name already.
        self._last_good = runner.message_hub.get_info('last_ckpt')
        self.watch(runner, 'weights', outputs, data_batch)
        if log_is_due(runner, batch_idx) or checkpoint_is_due(runner):
            self.check(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Look before hours of validation, and a checkpoint of the best."""
        self.check(runner)

    def watch(
        self, runner: Runner, half: str, losses: dict[str, Any], batch: dict
    ) -> None:
        """Remember the losses of a step; reads nothing off the device.

        Args:
            runner (Runner): Of the iteration.
            half (str): What the step is on, ``'weights'`` or
                ``'architecture'``.
            losses (dict): Scalars by name; those with ``loss`` in their names
                count, as they do for MMEngine.
            batch (dict): As it comes out of the loader.
        """
        losses = {k: v for k, v in losses.items() if 'loss' in k}
        files = [
            getattr(sample, 'img_path', 'an unnamed image')
            for sample in batch['data_samples']
        ]
        self._watched.append(
            (half, runner.iter + 1, files, without_graphs(losses))
        )

    def check(self, runner: Runner) -> None:
        """Look at all that was watched since the last time, in that order.

        Raises:
            UserError: More than ``tolerance`` in a row were not finite.
        """
        watched, self._watched = self._watched, []
        values = as_numbers([losses for *_, losses in watched])
        for (half, iteration, files, _), losses in zip(watched, values):
            bad = ', '.join(
                f'{name} is {value}'
                for name, value in losses.items()
                if not math.isfinite(value)
            )
            if not bad:
                self._in_a_row[half] = 0
                continue
            self._in_a_row[half] += 1
            found = (
                f'In iteration {iteration}, in the step on the {half}, {bad}, '
                f'on {", ".join(files)}'
            )
            if self._in_a_row[half] > self.tolerance:
                raise UserError(
                    f'{found}; look at these images and their labels, or '
                    f'lower the learning rate, and {self._way_out()}.'
                )
            runner.logger.warning(
                f'{found}; {self._in_a_row[half]} in a row, of '
                f'{self.tolerance} that are let pass.'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Let nothing be saved that is not finite.

        Finite losses are not enough: the step that follows them may be the
        one that is not, and the loss of another process counts, too.
        """
        self.check(runner)
        for name, value in checkpoint['state_dict'].items():
            if not value.isfinite().all():
                raise UserError(
                    f'After iteration {runner.iter + 1}, {name} holds values '
                    'that are not finite, so no checkpoint is written; lower '
                    f'the learning rate, and {self._way_out()}.'
                )

    def _way_out(self) -> str:
        if self._last_good is None:
            return 'start anew, as no checkpoint was saved before'
        return f'--resume from the last good checkpoint, {self._last_good}'


def finite_loss_hooks(runner: Runner) -> list[FiniteLossHook]:
    """Those of a runner, for hooks that watch or check losses."""
    return [hook for hook in runner.hooks if isinstance(hook, FiniteLossHook)]
