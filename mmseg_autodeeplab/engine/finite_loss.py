"""Stop a training whose numbers have gone wrong."""

import math
from collections import Counter
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..errors import UserError


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop at a loss that is not finite, before it is saved.

    The error names the iteration, the loss, the images of the batch and the
    last good checkpoint. No checkpoint is written of weights, statistics or
    an architecture that are not finite, so the latest is always a good one.

    Args:
        tolerance (int): How many such losses in a row, of one step, are let
            pass with a warning. More than 0 makes sense with the loss scaler
            of fp16 alone, which skips these steps; without it, the first one
            spoils the weights.
    """

    # Before all that builds on the losses.
    priority = 'HIGH'

    def __init__(self, tolerance: int = 0) -> None:
        self.tolerance = tolerance
        self._in_a_row: Counter = Counter()
        self._last_good: Optional[str] = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: dict
    ) -> None:
        """Check the losses of the weight step."""
        # While one is saved, this is its name already.
        self._last_good = runner.message_hub.get_info('last_ckpt')
        self.check(runner, 'weight', outputs, data_batch)

    def check(
        self, runner: Runner, step: str, losses: dict[str, Any], batch: dict
    ) -> None:
        """Look at the losses of a step.

        Args:
            runner (Runner): Of the iteration.
            step (str): ``'weight'`` or ``'architecture'``.
            losses (dict): Scalars by name; those with ``loss`` in their names
                count, as they do for MMEngine.
            batch (dict): As it comes out of the loader.

        Raises:
            UserError: More than ``tolerance`` in a row were not finite.
        """
        bad = [
            f'{name} is {float(value)}'
            for name, value in losses.items()
            if 'loss' in name and not math.isfinite(value)
        ]
        self._in_a_row[step] = self._in_a_row[step] + 1 if bad else 0
        if not bad:
            return
        files = [
            getattr(sample, 'img_path', 'an unnamed image')
            for sample in batch['data_samples']
        ]
        found = (
            f'In the {step} step of iteration {runner.iter + 1}, '
            f'{", ".join(bad)}, on {", ".join(files)}'
        )
        if self._in_a_row[step] > self.tolerance:
            raise UserError(
                f'{found}; look at these images and their labels, or lower '
                f'the learning rate, and {self._way_out()}.'
            )
        runner.logger.warning(
            f'{found}; {self._in_a_row[step]} in a row, of {self.tolerance} '
            'that are let pass.'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Let nothing be saved that is not finite.

        Finite losses are not enough: the step that follows them may be the
        one that is not, and the loss of another process counts, too.
        """
        for name, value in checkpoint['state_dict'].items():
            if not value.isfinite().all():
                raise UserError(
                    f'After iteration {runner.iter + 1}, {name} holds values '
                    'that are not finite, so no checkpoint is written; lower '
                    f'the learning rate, and {self._way_out()}.'
                )

    def _way_out(self):
        if self._last_good is None:
            return 'start anew, as no checkpoint was saved before'
        return f'--resume from the last good checkpoint, {self._last_good}'


def finite_loss_hooks(runner: Runner) -> list[FiniteLossHook]:
    """Those of a runner, for hooks that have losses of their own."""
    return [hook for hook in runner.hooks if isinstance(hook, FiniteLossHook)]
