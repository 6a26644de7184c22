"""Checkpoints: complete or absent, with room on the disk, of all processes."""

import glob
import itertools
import os
import shutil
from pathlib import Path
from typing import ClassVar, Union

from mmengine.dist import all_reduce_params, master_only
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn
from torch.optim import Optimizer

from ..errors import Unavailable
from ..files import write_atomically


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """Local files, of which at any moment a complete one is there.

    For ``CheckpointHook(backend_args=dict(backend='atomic'))``. What is put
    is written aside and renamed. What is removed goes when the next file is
    in place, since ``CheckpointHook`` removes an old checkpoint before it
    saves the new one. So while it saves, the disk holds one more than
    ``max_keep_ckpts``. What a killed process left of a file goes, too.
    """

    # MMEngine makes one instance to remove, and others to put.
    outdated: ClassVar[set[str]] = set()

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        filepath = os.path.abspath(filepath)
        write_atomically(filepath, obj)
        self.outdated.discard(filepath)
        self.outdated.update(glob.glob(f'{glob.escape(filepath)}.*.tmp'))
        while self.outdated:
            old = Path(self.outdated.pop())
            # The best one of the run that was resumed may lie elsewhere.
            if old.parent == Path(filepath).parent:
                old.unlink(missing_ok=True)

    def remove(self, filepath: Union[str, Path]) -> None:
        self.outdated.add(os.path.abspath(filepath))


def bare_model(runner: Runner) -> nn.Module:
    """The runner's model, without the wrapper of distributed training."""
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def averaged_models(runner: Runner) -> list[nn.Module]:
    """Those of each ``EMAHook``, which has a model of its own."""
    hooks = (hook for hook in runner.hooks if isinstance(hook, EMAHook))
    return [hook.ema_model.module for hook in hooks]


def checkpoint_size(
    model: nn.Module, optimizer: Optimizer, *averaged: nn.Module
) -> int:
    """Bytes of a checkpoint, estimated before the first step.

    Parameters and buffers, those of averaged models too, and the moments of
    each trained parameter: two if the optimizer has ``betas`` as Adam, one if
    it has ``momentum``.
    """
    state = sum(
        tensor.nbytes
        for saved in (model, *averaged)
        for tensor in saved.state_dict().values()
    )
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    options = optimizer.defaults
    moments = 2 if 'betas' in options else bool(options.get('momentum'))
    return state + moments * trained


@HOOKS.register_module()
class CheckpointRoomHook(Hook):
    """Stop before training where the disk has no room for two checkpoints.

    Two, since an old one goes when the next is complete. It sees no quotas.
    """

    @master_only
    def before_train(self, runner: Runner) -> None:
        optimizer = runner.optim_wrapper.optimizer
        needed = 2 * checkpoint_size(
            bare_model(runner), optimizer, *averaged_models(runner)
        )
        free = shutil.disk_usage(runner.work_dir).free
        if free < needed:
            raise Unavailable(
                f'The disk of {runner.work_dir} has {free / 1e6:.1f} MB '
                f'left, but two checkpoints need {needed / 1e6:.1f} MB; '
                'free some space, or set another --work-dir.'
            )


def checkpoint_is_due(runner: Runner) -> bool:
    """Whether a ``CheckpointHook`` saves after this training iteration.

    ``before_save_checkpoint`` is called on rank 0 alone, so whatever takes
    all processes has to come before it.
    """
    return any(
        hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
        or (hook.save_last and hook.is_last_train_iter(runner))
        for hook in runner.hooks
        if isinstance(hook, CheckpointHook) and not hook.by_epoch
    )


@HOOKS.register_module()
class SyncStatisticsHook(Hook):
    """Take the mean of the running statistics where they are used.

    Of several processes, a checkpoint holds those of the first. So all take
    the mean before it, before a validation, and at the end of an epoch, as
    ``SyncBuffersHook`` does. Those that stand beside averaged weights, too.
    """

    # After all that changes the model, and before CheckpointHook (VERY_LOW).
    priority = 80

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        if checkpoint_is_due(runner):
            self.before_val(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        models = bare_model(runner), *averaged_models(runner)
        buffers = map(_statistics, models)
        all_reduce_params(itertools.chain(*buffers), op='mean')


def _statistics(model):
    """The buffers that training moves; a mean would round the constants."""
    # By their memory, since a state dict may name parts of a buffer.
    saved = {_memory(value) for value in model.state_dict().values()}
    for buffer in model.buffers():
        if buffer.is_floating_point() and _memory(buffer) in saved:
            yield buffer


def _memory(tensor):
    return tensor.untyped_storage().data_ptr()
