"""All processes hold one architecture."""

from collections.abc import Sequence

import torch
from mmengine.dist import all_gather
from torch import Tensor

from ...errors import UserError


def check_agreement(params: Sequence[Tensor], iteration: int) -> None:
    """Compare the architecture of every process with that of the first.

    Waits for all processes, and for the device. All of them come to the same
    result, so none is left waiting for one that stopped.

    Args:
        params (Sequence[Tensor]): The architecture parameters.
        iteration (int): Iterations done, for the message.

    Raises:
        UserError: They are not the same, bit by bit.
    """
    # As bytes: what is not a number would differ from itself.
    values = torch.cat([p.detach().flatten() for p in params])
    first, *others = all_gather(values.view(torch.uint8))
    differing = [
        str(rank)
        for rank, other in enumerate(others, 1)
        if not torch.equal(first, other)
    ]
    if differing:
        raise UserError(
            f'After {iteration} iterations, alphas and betas on rank '
            f'{", ".join(differing)} are not those on rank 0; make sure that '
            'nothing but ArchSearchHook changes them, and resume from the '
            'checkpoint before.'
        )
