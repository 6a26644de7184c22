"""Spatial sizes: the level of stride s holds ceil(H / s) x ceil(W / s)."""

from collections.abc import Sequence

from ...arch import RATES
from ...errors import UserError

MIN_SIZE = RATES[-1] + 1


def level_sizes(size: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Height and width of each of the four scales of an input."""
    height, width = size
    # Not -(-n // rate): ONNX rounds the quotient of a negative number up.
    return tuple(
        ((height + rate - 1) // rate, (width + rate - 1) // rate)
        for rate in RATES
    )


def check_training_size(size: Sequence[int]) -> None:
    """Refuse training inputs that shrink to a single value at stride 32.

    Raises:
        UserError: If a side has less than 33 pixels.
    """
    if min(size) < MIN_SIZE:
        raise UserError(
            f'The network cannot be trained on inputs of {size[0]} x '
            f'{size[1]} pixels, since stride 32 leaves one value of them; '
            f'set crop_size to {MIN_SIZE} or more on each side.'
        )
