"""Hooks that watch the losses, and that schedule drop path."""

import math
from typing import Any

import torch
from mmengine.hooks import Hook, RuntimeInfoHook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..errors import UserError
from .checkpoints import bare_model

# Of configs that earlier versions wrote: transforms and the loop do it now.
HOOKS.register_module('DataGuardHook', module=Hook)
HOOKS.register_module('ExactResumeHook', module=Hook)
HOOKS.register_module('DeferredRuntimeInfoHook', module=RuntimeInfoHook)


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop at a loss that is not finite, before it is saved.

    The error names the iteration, the loss, the images of the batch and the
    last good checkpoint. No checkpoint is written of weights, statistics or
    an architecture that are not finite, so the latest is always a good one.

    None is let pass, since what its forward leaves in running statistics stays
    there. Where only gradients overflow, the loss scaler of fp16 skips the
    step, and the training goes on.
    """

    # Before all that builds on the losses.
    priority = 'HIGH'

    def __init__(self) -> None:
        self._last_good = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: dict
    ) -> None:
        # While one is saved, this is its name already.
        self._last_good = runner.message_hub.get_info('last_ckpt')
        self.check(runner, 'weight', outputs, data_batch)

    def check(
        self, runner: Runner, step: str, losses: dict[str, Any], batch: dict
    ) -> None:
        """Look at the losses of the ``'weight'`` or ``'architecture'`` step.

        Scalars with ``loss`` in their names count, as they do for MMEngine.
        """
        bad = [
            f'{name} is {number}'
            for name, value in losses.items()
            if 'loss' in name
            and not math.isfinite(number := torch.as_tensor(value).item())
        ]
        if bad:
            files = [
                getattr(sample, 'img_path', 'an unnamed image')
                for sample in batch['data_samples']
            ]
            raise UserError(
                f'In the {step} step of iteration {runner.iter + 1}, '
                f'{", ".join(bad)}, on {", ".join(files)}; look at these '
                'images and their labels, or lower the learning rate, and '
                f'{self._way_out()}.'
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


@HOOKS.register_module()
class ScheduledDropPathHook(Hook):
    """Set the keep probabilities of an ``AutoDeepLab`` every iteration.

    That of the last cell ends at ``keep_prob``, in (0, 1], and is logged.
    """

    def __init__(self, keep_prob: float) -> None:
        if not 0 < keep_prob <= 1:
            raise UserError(
                f'ScheduledDropPathHook.keep_prob is {keep_prob}, but must be '
                'above 0 and at most 1, which switches drop path off.'
            )
        self.keep_prob = keep_prob

    def before_train(self, runner: Runner) -> None:
        backbone = getattr(bare_model(runner), 'backbone', None)
        if not hasattr(backbone, 'set_keep_probs'):
            raise UserError(
                'ScheduledDropPathHook needs a backbone with '
                f'set_keep_probs(), but found {type(backbone).__name__}; use '
                'AutoDeepLab, or take the hook out of custom_hooks.'
            )

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        backbone = bare_model(runner).backbone
        count, progress = len(backbone.cells), runner.iter / runner.max_iters
        probs = [
            keep_probability(cell, count, self.keep_prob, progress)
            for cell in range(count)
        ]
        backbone.set_keep_probs(probs)
        runner.message_hub.update_scalar('train/keep_prob', probs[-1])


def keep_probability(
    cell: int, num_cells: int, keep_prob: float, progress: float
) -> float:
    """Scheduled drop path, as in the authors' code.

    Deeper cells and later steps drop more: ``1 - t (1 - p_c)`` at progress t,
    the share of the training that is done, where cell c of N (from 0) ends at
    ``p_c = 1 - (c + 1) / N (1 - p)``, and so the last one at ``keep_prob`` p.
    """
    at_the_end = 1 - (cell + 1) / num_cells * (1 - keep_prob)
    return 1 - min(1, progress) * (1 - at_the_end)
