"""Functions of the networks that hold no weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ...arch import RATES
from ...errors import UserError
from .graphs import in_turn, is_branching

MIN_SIZE = RATES[-1] + 1


def level_sizes(size: Sequence[int]) -> list[tuple[int, int]]:
    """Give ceil(H / s), ceil(W / s) of an input at each of the four scales."""
    height, width = size
    # Not -(-n // rate): ONNX rounds the quotient of a negative number up.
    return [
        ((height + rate - 1) // rate, (width + rate - 1) // rate)
        for rate in RATES
    ]


def check_training_size(size: Sequence[int]) -> None:
    """Refuse training inputs that shrink to a single value at stride 32."""
    if min(size) < MIN_SIZE:
        raise UserError(
            f'The network cannot be trained on inputs of {size[0]} x '
            f'{size[1]} pixels, since stride 32 leaves one value of them; '
            f'set crop_size to {MIN_SIZE} or more on each side.'
        )


def resize(x: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Bilinear resize; returns ``x`` itself if it already has that size."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(
        x, size=size, mode='bilinear', align_corners=align_corners
    )


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the entries of the last dimension where a mask is true.

    It is 0, without a gradient, where the mask is false.
    """
    # A row of nothing but -inf would be nan.
    exists = mask.any(-1, keepdim=True)
    return logits.masked_fill(exists & ~mask, -torch.inf).softmax(-1) * exists


def with_passed(mixed: Tensor, passed: Sequence[Tensor]) -> Tensor:
    """Put channels that were mixed and the mean of those that passed together.

    Shuffled, so that every channel is mixed at times: partial channel
    connections (`PC-DARTS <https://arxiv.org/abs/1907.05737>`_). Of C
    channels, C / k are mixed, and none has passed for k = 1.
    """
    if not passed[0].shape[1]:
        return mixed
    mean = reduce(torch.add, passed) / len(passed)
    parts = torch.cat((mixed, mean), dim=1).unflatten(1, (-1, mixed.shape[1]))
    return parts.transpose(1, 2).flatten(1, 2)


def checkpointed(module: nn.Module, *args: Tensor) -> Tensor:
    """Run a module, and once more in backward instead of keeping its insides.

    Non-reentrant, so that gradients of single inputs can be asked for. The
    second run leaves batch norm's running statistics alone.
    """
    return checkpoint(
        # What is computed again is there on one stream alone.
        in_turn,
        module,
        *args,
        use_reentrant=False,
        # A graph that is captured cannot ask for the state.
        preserve_rng_state=not is_branching(),
        # Compares every tensor that is computed again, which takes its time.
        determinism_check='none',
        context_fn=lambda: (nullcontext(), _statistics_kept(module)),
    )


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Have running statistics updated in copies."""
    buffers = [
        (m, name, buffer)
        for m in module.modules()
        if isinstance(m, _BatchNorm)
        for name, buffer in m.named_buffers()
    ]
    for norm, name, buffer in buffers:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)
