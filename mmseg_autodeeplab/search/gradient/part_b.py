"""The images that move the architecture, which the weights never see."""

import copy

from mmengine.runner import Runner
from torch.utils.data import Sampler

from ...datasets import SplitInfiniteSampler
from ...engine import SampleStream, seeded_loader
from ...errors import UserError


def train_sampler(runner: Runner) -> Sampler:
    """The sampler that the config of the training loader asks for.

    Our loop wraps it; MMEngine's does not.
    """
    sampler = runner.train_dataloader.sampler
    return getattr(sampler, 'sampler', sampler)


def part_b_stream(runner: Runner, position: int = 0) -> SampleStream:
    """The training loader once more, on part B of the same data set.

    Args:
        runner (Runner): Whose loader uses a ``SplitInfiniteSampler`` of
            part A.
        position (int): Samples of part B that were handed out before, over
            all processes. Defaults to 0.

    Returns:
        SampleStream: Its batches.

    Raises:
        UserError: The training loader uses another sampler.
    """
    sampler = train_sampler(runner)
    found = type(sampler).__name__
    if isinstance(sampler, SplitInfiniteSampler):
        found += f' of part {sampler.part}'
    if found != 'SplitInfiniteSampler of part A':
        raise UserError(
            'ArchSearchHook trains the architecture on images that the '
            'weights never see, but the sampler of train_dataloader is '
            f'{found}; set train_dataloader.sampler to '
            "dict(type='SplitInfiniteSampler')."
        )
    cfg = copy.deepcopy(runner.cfg.train_dataloader)
    # Built already; its list of images may be long.
    cfg.dataset = sampler.dataset
    cfg.sampler.part = 'B'
    # Another seed: with the same one, parts of equal size would be walked
    # through in step.
    loader = seeded_loader(cfg, part='B', seed=runner.seed + 1)
    return SampleStream(loader, position)
