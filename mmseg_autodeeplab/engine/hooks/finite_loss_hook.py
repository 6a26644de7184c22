"""Stop a training whose numbers have gone wrong."""

import math
from collections import Counter
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ...errors import UserError


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop at a loss that is not finite, before it is saved.

    The error names the loss, the images of the batch and the last good
    checkpoint. No checkpoint is written of weights, statistics or an
    architecture that are not finite, so the latest is always a good one.

    Of the weights' losses, those of the current iteration are looked at;
    MMEngine has read them off the device already. Those that another hook
    gives to :meth:`watch` stay on the device until then, when waiting for the
    next iteration's has waited for them, too.

    Args:
        tolerance (int): How many such losses in a row, of the weights or of
            the architecture, are let pass with a warning. More than 0 makes
            sense with the loss scaler of fp16 alone, which skips these steps;
            without it, the first one spoils the weights. Defaults to 0.
    """

    # After MMEngine has read the losses, and before all that builds on them.
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
        """Look at the weights' losses, and at those watched before."""
        # While one is saved, this is its name already.
        self._last_good = runner.message_hub.get_info('last_ckpt')
        self.watch(runner, 'weights', outputs, data_batch)
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
        self._watched.append((half, runner.iter + 1, losses, files))

    def check(self, runner: Runner) -> None:
        """Look at all that was watched since the last time, in that order.

        Raises:
            UserError: More than ``tolerance`` in a row were not finite.
        """
        watched, self._watched = self._watched, []
        for half, iteration, losses, files in watched:
            bad = ', '.join(
                f'{name} is {float(value)}'
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
