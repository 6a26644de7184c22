"""The drop-path schedule of retraining."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..errors import UserError
from .checkpoints import bare_model


def keep_probability(
    cell: int, num_cells: int, keep_prob: float, progress: float
) -> float:
    """Scheduled drop path, as in the authors' code.

    Deeper cells and later steps drop more: ``1 - t (1 - p_c)`` at progress t,
    where cell c of N ends at ``p_c = 1 - (c + 1) / N (1 - p)``.

    Args:
        cell (int): Index of the cell, from 0.
        num_cells (int): N.
        keep_prob (float): p, what the last cell ends at.
        progress (float): t, the share of the training that is done.
    """
    at_the_end = 1 - (cell + 1) / num_cells * (1 - keep_prob)
    return 1 - min(1, progress) * (1 - at_the_end)


@HOOKS.register_module()
class ScheduledDropPathHook(Hook):
    """Set the keep probabilities of an ``AutoDeepLab`` every iteration.

    They follow from the iteration alone, so a resumed training goes on where
    it was. That of the last cell is logged as ``keep_prob``.

    Args:
        keep_prob (float): What the last cell ends at, in (0, 1].
    """

    def __init__(self, keep_prob: float) -> None:
        if not 0 < keep_prob <= 1:
            raise UserError(
                f'ScheduledDropPathHook.keep_prob is {keep_prob}, but must be '
                'above 0 and at most 1, which switches drop path off.'
            )
        self.keep_prob = keep_prob

    def before_train(self, runner: Runner) -> None:
        """Look whether the backbone has cells to drop paths in."""
        backbone = getattr(bare_model(runner), 'backbone', None)
        if not hasattr(backbone, 'set_keep_probs'):
            raise UserError(
                'ScheduledDropPathHook needs a backbone with '
                f'set_keep_probs(), but found {type(backbone).__name__}; use '
                'AutoDeepLab, or take the hook out of custom_hooks.'
            )

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Set the probabilities of this iteration."""
        backbone = bare_model(runner).backbone
        count = len(backbone.cells)
        progress = runner.iter / runner.max_iters
        probs = [
            keep_probability(cell, count, self.keep_prob, progress)
            for cell in range(count)
        ]
        backbone.set_keep_probs(probs)
        runner.message_hub.update_scalar('train/keep_prob', probs[-1])
