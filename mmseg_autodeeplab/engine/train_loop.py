"""The loop of every training here: repeatable, wherever it starts."""

import bisect
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.device import get_device
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import CheckpointHook
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    Runner,
    TestLoop,
    ValLoop,
)
from mmseg.registry import DATA_SAMPLERS, LOOPS
from torch import nn

from ..compat.registry import resolve
from ..compat.runner import open_loader
from ..errors import UserError
from .randomness import ITERATION, VALIDATION, seed_everything
from .resume import watch_resume
from .sample_stream import SampleStream, seeded_loader


@LOOPS.register_module()
class SeededIterBasedTrainLoop(IterBasedTrainLoop):
    """``IterBasedTrainLoop`` whose randomness is a function, not a state.

    Sample number k is loaded and augmented under generators seeded by (seed,
    k), iteration i computes under (seed, rank, i), and a validation under
    (seed, rank, i) of its own. So on the CPU, a run that stopped at any
    checkpoint ends, bit by bit, as if it had never stopped, for any number of
    workers; what keeps a resume from being exact is said in one warning. A
    resume seeks: it reads no batch again. It catches up a validation that was
    due at the iteration of the checkpoint, which is written before it. As
    many images per iteration from more processes are the same images.
    """

    INFO_KEY = 'seeded_loop'

    def __init__(self, runner: Runner, dataloader: Mapping, **kwargs) -> None:
        loader = seeded_loader(dataloader, 'A', runner.seed)
        super().__init__(runner, loader, **kwargs)
        open_loader(self)
        self.dataloader_iterator = SampleStream(loader)
        self.seed = loader.dataset.seed
        watch_resume(runner)

    def run(self) -> nn.Module:
        """Train, from the beginning or from where a checkpoint was saved."""
        runner = self.runner
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        if self.iter > 0:
            self._go_on()
        while self.iter < self.max_iters and not self.stop_training:
            runner.model.train()
            batch = next(self.dataloader_iterator)
            runner.message_hub.update_info(self.INFO_KEY, self._place())
            seed_everything(self.seed, ITERATION, get_rank(), self.iter)
            self.run_iter(batch)
            self._validate_if_due()
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def _place(self):
        """Where the run stands, and what its numbers hold for."""
        stream = self.dataloader_iterator
        return {
            'position': stream.position,
            'the number of images per iteration': stream.batch_size,
            'the number of processes': get_world_size(),
            'the seed': self.seed,
            'the device': get_device(),
        }

    def _go_on(self):
        runner, stream = self.runner, self.dataloader_iterator
        before = runner.message_hub.get_info(self.INFO_KEY, {})
        stream.position = before.get('position', self.iter * stream.batch_size)
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                # It saves again after a best validation, if it ever saved.
                hook.last_ckpt = runner.message_hub.get_info('last_ckpt')
        self._validate_if_due()

    def obstacles(self) -> Iterator[str]:
        """What keeps a resume of this loop from being exact."""
        before = self.runner.message_hub.get_info(self.INFO_KEY, {})
        if not before:
            yield (
                'the checkpoint does not tell where in the data it was, since '
                'another loop or an earlier version saved it'
            )
        for name, now in self._place().items():
            then = before.get(name, now)
            if name != 'position' and now != then:
                yield f'{name} is {now}, but was {then} at the checkpoint'
        wrapper = self.runner.cfg.get('optim_wrapper') or {}
        if pending := self.iter % wrapper.get('accumulative_counts', 1):
            yield (
                f'gradients of {pending} iterations were accumulated and not '
                'yet applied'
            )
        if get_device() != 'cpu':
            yield f'results on {get_device()} may vary from run to run'

    def _validate_if_due(self):
        # By the interval of the next iteration, as IterBasedTrainLoop has it.
        step = bisect.bisect(self.dynamic_milestones, self.iter + 1)
        self.val_interval = self.dynamic_intervals[step - 1]
        is_due = self.iter >= self.val_begin and (
            self.iter % self.val_interval == 0 or self.iter == self.max_iters
        )
        if is_due and self.runner.val_loop is not None:
            seed_everything(self.seed, VALIDATION, get_rank(), self.iter)
            self.runner.val_loop.run()


def loop_class(part: str, cfg: Mapping) -> Optional[type]:
    """The class that the runner takes for a loop; None if it knows none.

    The part is ``'train'``, ``'val'`` or ``'test'``.
    """
    if 'type' in cfg:
        return resolve(LOOPS, cfg['type'])
    if part != 'train':
        return dict(val=ValLoop, test=TestLoop)[part]
    loops = {True: EpochBasedTrainLoop, False: IterBasedTrainLoop}
    return loops.get(cfg.get('by_epoch'))


def check_ends(cfg: Config, *parts: str) -> None:
    """Raise a :class:`UserError` where a loop would never end.

    Epochs, validations and tests end with the samples, so that only a loop of
    iterations may have an ``InfiniteSampler``. Parts are as above.
    """
    for part in parts:
        loop = cfg.get(f'{part}_cfg')
        loader = cfg.get(f'{part}_dataloader') or {}
        sampler = _endless(loader.get('sampler'))
        if loop is None or sampler is None:
            continue
        kind = loop_class(part, loop)
        if _is(kind, EpochBasedTrainLoop, ValLoop, TestLoop):
            or_else = ', or train_cfg to a loop of iterations'
            raise UserError(
                f'{part}_cfg has the loop {kind.__name__}, which ends with '
                f'the samples, but {part}_dataloader has the sampler '
                f'{sampler.__name__}, which never ends: set the sampler to '
                f"dict(type='DefaultSampler')"
                f'{or_else if part == "train" else ""}'
            )


def _endless(sampler: Any) -> Optional[type]:
    while hasattr(sampler, 'get'):
        kind = resolve(DATA_SAMPLERS, sampler.get('type'))
        if _is(kind, InfiniteSampler):
            return kind
        sampler = sampler.get('sampler')  # One around another.
    return None


def _is(kind: Any, *classes: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, classes)
