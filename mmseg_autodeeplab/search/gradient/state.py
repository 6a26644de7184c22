"""What a checkpoint holds of a search: its state, and what it is about."""

from typing import Any

from mmengine.runner import Runner

from ...arch import PRIMITIVES, num_blocks_of
from ...datasets import SplitInfiniteSampler
from ...engine import bare_model
from ...errors import UserError
from .arch_step import search_backbone
from .part_b import train_sampler

STATE_KEY = 'arch_search'
STATE_VERSION = 3


def search_identity(runner: Runner) -> dict[str, Any]:
    """What must not change when a search is resumed.

    Returns:
        dict: Of search space and split, by the names in a message. Without
        the split if the sampler is not a ``SplitInfiniteSampler``.
    """
    alphas, betas = search_backbone(bare_model(runner)).arch_parameters()
    sampler = train_sampler(runner)
    identity = dict(
        num_layers=len(betas),
        num_blocks=num_blocks_of(len(alphas)),
        primitives=list(PRIMITIVES),
    )
    if isinstance(sampler, SplitInfiniteSampler):
        total, own = len(sampler.dataset), len(sampler)
        in_a = own if sampler.part == 'A' else total - own
        identity.update(
            {
                'number of images in part A': in_a,
                'number of images in part B': total - in_a,
                'split_id': sampler.split_id,
            }
        )
    return identity


def state_to_resume(runner: Runner, checkpoint: dict) -> dict:
    """The state of this search in a checkpoint.

    MMEngine would leave out parameters that do not fit, and go on.

    Args:
        runner (Runner): That resumes.
        checkpoint (dict): As it was loaded.

    Returns:
        dict: As this version writes it, whichever version wrote it.

    Raises:
        UserError: It is not of this search, or of a version that is not read.
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
