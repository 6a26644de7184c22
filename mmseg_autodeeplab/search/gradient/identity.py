"""What a search is about: its search space, and the split of its data."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.utils.data import Sampler

from ...arch import PRIMITIVES, num_blocks_of
from ...datasets import SplitInfiniteSampler
from ...errors import UserError


def search_identity(
    params: Sequence[nn.Parameter], sampler: Sampler
) -> dict[str, Any]:
    """What must not change when a search is resumed.

    Args:
        params (Sequence[nn.Parameter]): Alphas and betas.
        sampler (Sampler): That of the training loader.

    Returns:
        dict: By the names in a message. Without the split if the sampler is
        not a ``SplitInfiniteSampler``.
    """
    alphas, betas = params
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


def check_identity(found: dict, expected: dict) -> None:
    """Refuse to resume another search.

    MMEngine would leave out parameters that do not fit, and go on.

    Args:
        found (dict): The identity in a checkpoint.
        expected (dict): That of the config.

    Raises:
        UserError: They differ.
    """
    for name, value in expected.items():
        if found[name] != value:
            raise UserError(
                'The checkpoint to resume from is of another search, since '
                f'its {name} is {found[name]}, but by the config it is '
                f'{value}; resume with the config and the data that it was '
                'made with, or start anew in another work_dir.'
            )
