"""Where a search stands: in part B of the data, and in a checkpoint."""

import copy

from mmengine.config import Config
from mmengine.runner import Runner

from ...arch import PRIMITIVES, num_blocks_of
from ...datasets import SplitInfiniteSampler
from ...engine import SampleStream, bare_model, seeded_loader
from ...errors import UserError
from .arch_step import search_backbone

STATE_KEY = 'arch_search'
STATE_VERSION = 3


def part_b_stream(runner: Runner, position: int = 0) -> SampleStream:
    """The training loader once more, on part B, which the weights never see.

    It begins behind ``position`` samples, counted over all processes. A
    training loader that does not sample part A is a :class:`UserError`.
    """
    cfg = copy.copy(runner.cfg.train_dataloader)
    # Built already, and shared; its list of images may be long.
    cfg.dataset = _part_a(runner).dataset
    return stream_of_part_b(cfg, runner.seed, position)


def stream_of_part_b(
    cfg: Config, seed: int, position: int = 0
) -> SampleStream:
    """Part B by the config of a training loader, and the seed of a search.

    The data set of the config may be built.
    """
    cfg = copy.copy(cfg)
    cfg.sampler = dict(cfg.sampler, part='B')
    # Another seed: with the same one, parts of equal size would be walked
    # through in step.
    loader = seeded_loader(cfg, part='B', seed=seed + 1)
    return SampleStream(loader, position)


def search_identity(runner: Runner) -> dict:
    """What must not change when a search is resumed: space and split."""
    alphas, betas = search_backbone(bare_model(runner)).arch_parameters()
    sampler = _part_a(runner)
    in_a, in_both = len(sampler), len(sampler.dataset)
    return {
        'num_layers': len(betas),
        'num_blocks': num_blocks_of(len(alphas)),
        'primitives': list(PRIMITIVES),
        'number of images in part A': in_a,
        'number of images in part B': in_both - in_a,
        'split_id': sampler.split_id,
    }


def state_to_resume(runner: Runner, checkpoint: dict) -> dict:
    """The state of this search in a checkpoint, as this version writes it.

    One of another search, or of a version that is not read, is a
    :class:`UserError`; MMEngine would leave out what does not fit, and go on.
    """
    if STATE_KEY not in checkpoint:
        raise UserError(
            'The checkpoint to resume from is not one of an architecture '
            f'search, since it has no entry {STATE_KEY!r}; resume from a '
            'checkpoint that ArchSearchHook saw, or start anew with '
            'load_from.'
        )
    state = dict(checkpoint[STATE_KEY])
    version = state['version']
    if version not in (2, STATE_VERSION):
        raise UserError(
            f'The search state in the checkpoint has version {version}, but '
            f'this version of mmseg_autodeeplab reads versions 2 and '
            f'{STATE_VERSION}; resume with the version that wrote it.'
        )
    for name, value in search_identity(runner).items():
        found = state['identity'][name]
        if found != value:
            raise UserError(
                'The checkpoint to resume from is of another search, since '
                f'its {name} is {found}, but by the config it is {value}; '
                'resume with the config and the data that it was made with, '
                'or start anew in another work_dir.'
            )
    if version == 2:
        # It counted batches of a process.
        state['position'] = (
            state.pop('num_batches')
            * runner.train_dataloader.batch_size
            * runner.world_size
        )
        runner.logger.warning(
            'The checkpoint is of the version before, so the search goes on '
            'with the images of part B that come next, but they are augmented '
            'otherwise than they would have been.'
        )
    return state


def _part_a(runner):
    """The sampler, which our loop wraps, and MMEngine's does not."""
    sampler = runner.train_dataloader.sampler
    sampler = getattr(sampler, 'sampler', sampler)
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
    return sampler
