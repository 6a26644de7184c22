"""The one table of the primitives, which all else reads when it runs.

To add a primitive, add a row, and a builder in
``models/layers/operations.py`` if its kind is new. Costs, decoding and
drawings follow from the row. The fused form of the supernet needs to know
the kind too (``models/layers/fused_kinds.py``); the reference form does not.
"""

from dataclasses import dataclass
from typing import NamedTuple, Optional


class Conv(NamedTuple):
    """A convolution from C to C channels, at the size of the output."""

    kernel: int
    depthwise: bool = False
    norm: bool = True  # whether one follows


@dataclass(frozen=True)
class Primitive:
    """What may stand on an edge of a cell."""

    name: str  #: as in ``architecture.json``
    kind: str  #: what builds it, a key of ``BUILDERS``; or ``'none'``
    kernel: int  #: of its pooling or of its widest convolution
    label: str  #: in drawings
    color: str  #: in drawings, as matplotlib reads it
    #: Its convolutions, in order, the last one with a norm. A ReLU stands
    #: before the first one and behind every other norm.
    convs: tuple[Conv, ...] = ()
    #: Those in a position of stride 2, where they are others.
    strided_convs: Optional[tuple[Conv, ...]] = None

    @property
    def is_decodable(self) -> bool:
        """Whether a result may have it: ``none`` is of the search alone."""
        return self.kind != 'none'

    def convs_at(self, stride: int) -> tuple[Conv, ...]:
        """Its convolutions in a position of stride 1 or 2."""
        if stride == 1 or self.strided_convs is None:
            return self.convs
        return self.strided_convs


def _twice(kernel: int) -> tuple[Conv, ...]:
    """Depthwise separable, two times."""
    return 2 * (Conv(kernel, depthwise=True, norm=False), Conv(1))


# Okabe and Ito's colours, which everyone tells apart.
WHITE, GREY, YELLOW = '#FFFFFF', '#DDDDDD', '#F0E442'
BLUE, ORANGE = '#7CC4EC', '#F2B233'
# fmt: off
_ROWS = (
    Primitive('none', 'none', 1, 'none', WHITE),
    Primitive('max_pool_3x3', 'max_pool', 3, 'max pool 3×3', YELLOW),
    Primitive('avg_pool_3x3', 'avg_pool', 3, 'avg pool 3×3', YELLOW),
    Primitive('skip_connect', 'skip', 1, 'skip', GREY, (), (Conv(1),)),
    Primitive('sep_conv_3x3', 'sep_conv', 3, 'sep conv 3×3', BLUE, _twice(3)),
    Primitive('sep_conv_5x5', 'sep_conv', 5, 'sep conv 5×5', BLUE, _twice(5)),
    Primitive('atrous_conv_3x3', 'atrous_conv', 3, 'atrous conv 3×3', ORANGE,
              (Conv(3),)),
    Primitive('atrous_conv_5x5', 'atrous_conv', 5, 'atrous conv 5×5', ORANGE,
              (Conv(5),)),
)
# fmt: on
# By name, in the order of the last axis of the alphas.
PRIMITIVES = {row.name: row for row in _ROWS}


def index_of(name: str) -> int:
    """Where a primitive stands on the last axis of the alphas."""
    return list(PRIMITIVES).index(name)


def decodable() -> list[str]:
    """The names that a result may have: all but ``none``."""
    return [name for name, row in PRIMITIVES.items() if row.is_decodable]
