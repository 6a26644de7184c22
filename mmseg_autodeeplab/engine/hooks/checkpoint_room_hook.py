"""Room on the disk, before hours of training end for want of it."""

import shutil

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn
from torch.optim import Optimizer

from ...errors import UserError
from ..bare_model import bare_model


def checkpoint_size(model: nn.Module, optimizer: Optimizer) -> int:
    """Bytes of a checkpoint, estimated before the first step.

    Parameters and buffers, and for each trained parameter what the optimizer
    is going to keep: two moments if it has ``betas`` as Adam, one if it has
    ``momentum``.
    """
    state = sum(tensor.nbytes for tensor in model.state_dict().values())
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    if 'betas' in optimizer.defaults:
        return state + 2 * trained
    return state + bool(optimizer.defaults.get('momentum')) * trained


@HOOKS.register_module()
class CheckpointRoomHook(Hook):
    """Stop before training where the disk has no room for two checkpoints.

    Two, because an old one goes when the next is complete. Quotas are not
    seen.
    """

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Compare the estimate with what is free."""
        size = checkpoint_size(
            bare_model(runner), runner.optim_wrapper.optimizer
        )
        free = shutil.disk_usage(runner.work_dir).free
        if free < 2 * size:
            raise UserError(
                f'The disk of {runner.work_dir} has {free / 1e6:.1f} MB '
                f'left, but two checkpoints need {2 * size / 1e6:.1f} MB; '
                'free some space, or set another --work-dir.'
            )
