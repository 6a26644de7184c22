"""What the derived network is expected to cost under alphas and betas.

Counted is the backbone, stem and cells, as ``AutoDeepLab`` builds it: the
multiply-adds of its convolutions, or its parameters. The head is not: what it
costs depends on the scale where the path ends.

The path is a Markov chain over levels, from the stem on. What a cell at level
c of layer l costs depends on the levels b of layer l - 1, its input, and a of
layer l - 2, whose output it projects. So, with T_l the transitions,

    E = stem + sum_l sum_abc P_{l-2}(a) T_{l-1}(a, b) T_l(b, c) cost(a, b, c).

A derived block has two connections, a relaxed one has all of them; it costs
twice the average of what its edges hold, weighted by what is not ``none``:

    2 sum_e sum_{k != none} p(e, k) cost(k) / sum_e (1 - p(e, none)).

Where two edges of every block hold one primitive each, the others ``none``,
and every source one transition, E is the cost of that network, exactly.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from .autodeeplab import AutoDeepLabArchitecture
from .primitives import PRIMITIVES, Primitive, index_of
from .trellis import DIRECTIONS, NUM_LEVELS, RATES, block_edges, num_edges

QUANTITIES = ('multiply_adds', 'parameters')


class CostTables(NamedTuple):
    """All that :func:`expected_cost` needs beside the probabilities.

    Levels are a, b and c of layers l - 2, l - 1 and l. Costs of transitions
    that do not exist are 0.

    Attributes:
        stem: Shape (), the stem.
        entries: (L, 4, 4), ``[l, b, c]``: the projection of a cell's first
            input, and in layers 0 and 1, where the second one comes from the
            stem, of that too.
        prev_entries: (4, 4, 4), ``[a, b, c]``: the projection of the second
            input from layer 2 on.
        operations: (4, 4, edges, 8), ``[b, c, edge, primitive]``: two of
            this operation, as a block has two.
        same_block: (edges, edges), 1 where two edges enter the same block.
        some: (8,), 1 for every primitive but ``none``.
        targets: (4, 3, 4), ``[b, direction, c]``, 1 where this leads to c.
        start: (4,), the level of the stem, one-hot.
    """

    stem: Any
    entries: Any
    prev_entries: Any
    operations: Any
    same_block: Any
    some: Any
    targets: Any
    start: Any


def cost_tables(
    num_blocks: int,
    num_layers: int,
    quantity: str = 'multiply_adds',
    shape: Sequence[int] = (1025, 2049),
    filter_multiplier: int = 20,
    stem_channels: int = 64,
    in_channels: int = 3,
) -> CostTables:
    """Count every part that a derived network can have.

    Args:
        num_blocks (int): Blocks per cell, B.
        num_layers (int): Layers, L.
        quantity (str): ``'multiply_adds'`` of convolutions, or
            ``'parameters'``, of convolutions and affine norms. Defaults to
            ``'multiply_adds'``.
        shape (Sequence[int]): Height and width of the image; parameters do
            not depend on it. Defaults to (1025, 2049).
        filter_multiplier (int): F of the derived network, not of the
            supernet. Defaults to 20.
        stem_channels (int): Of the derived network. Defaults to 64.
        in_channels (int): Channels of the image. Defaults to 3.

    Returns:
        CostTables: float64 arrays.

    Raises:
        UserError: If the quantity is unknown.
    """
    if quantity not in QUANTITIES:
        raise UserError(
            f'The quantity of a cost is {quantity!r}, but must be '
            f'{" or ".join(map(repr, QUANTITIES))}.'
        )
    count = _Counter(quantity, shape)
    widths = [filter_multiplier * 2**level for level in range(NUM_LEVELS)]

    def prev_entry(channels: int, b: int, c: int) -> int:
        # AutoDeepLab leaves a second input alone that has the width already.
        if channels == widths[c]:
            return 0
        return count.unit(channels, widths[c], 1, RATES[min(b, c)])

    stem_out = 2 * stem_channels
    stem = (
        count.unit(in_channels, stem_channels, 3, 2)
        + count.unit(stem_channels, stem_channels, 3, 2)
        + count.unit(stem_channels, stem_out, 3, RATES[0])
    )
    entries = np.zeros((num_layers, NUM_LEVELS, NUM_LEVELS))
    prev_entries = np.zeros((NUM_LEVELS,) * 3)
    operations = np.zeros(
        (NUM_LEVELS, NUM_LEVELS, num_edges(num_blocks), len(PRIMITIVES))
    )
    targets = np.zeros((NUM_LEVELS, len(DIRECTIONS), NUM_LEVELS))
    for b in range(NUM_LEVELS):
        for direction, step in enumerate(DIRECTIONS):
            c = b + step
            if not 0 <= c < NUM_LEVELS:
                continue
            targets[b, direction, c] = 1
            for layer in range(num_layers):
                # Layer 0 reads the stem.
                channels = num_blocks * widths[b] if layer else stem_out
                # Upsampling comes before a cell, the stride is inside it: the
                # inputs are projected at the finer of both scales.
                entries[layer, b, c] = count.unit(
                    channels, widths[c], 1, RATES[min(b, c)]
                )
                if layer < 2:
                    channels = (stem_channels, stem_out)[layer]
                    entries[layer, b, c] += prev_entry(channels, b, c)
            for a in range(NUM_LEVELS):
                prev_entries[a, b, c] = prev_entry(
                    num_blocks * widths[a], b, c
                )
            for block in range(num_blocks):
                for state, edge in enumerate(block_edges(block)):
                    stride = 2 if c > b and state < 2 else 1
                    operations[b, c, edge] = [
                        2 * count.operation(row, widths[c], stride, RATES[c])
                        for row in PRIMITIVES.values()
                    ]

    same_block = np.zeros((num_edges(num_blocks),) * 2)
    for block in range(num_blocks):
        edges = block_edges(block)
        same_block[edges.start : edges.stop, edges.start : edges.stop] = 1
    some = [float(row.is_decodable) for row in PRIMITIVES.values()]
    start = np.zeros(NUM_LEVELS)
    start[0] = 1
    return CostTables(
        np.array(stem, dtype=np.float64),
        entries,
        prev_entries,
        operations,
        same_block,
        np.array(some),
        targets,
        start,
    )


def expected_cost(
    tables: CostTables, alphas: Any, betas: Any, xp: ModuleType = np
) -> Any:
    """The expectation, in multiply-adds or parameters.

    Args:
        tables (CostTables): Arrays, or tensors.
        alphas: Softmaxed, (edges, 8).
        betas: Softmaxed, (L, 4, 3); 0 where no transition exists.
        xp (module): ``numpy``, or ``torch`` if all of these are tensors; then
            the result has a gradient. Defaults to numpy.

    Returns:
        A scalar of the same kind.
    """
    transitions = xp.einsum('lbd,bdc->lbc', betas, tables.targets)
    level, reached = tables.start, []
    for transition in transitions:
        reached.append(level)
        level = level @ transition
    # The probability that the path has b at layer l - 1 and c at layer l.
    steps = xp.stack(reached)[:, :, None] * transitions

    weights = alphas * tables.some
    weights = weights / (tables.same_block @ weights.sum(-1))[:, None]
    cells = xp.einsum('bcek,ek->bc', tables.operations, weights)
    return (
        tables.stem
        + (steps * (tables.entries + cells)).sum()
        + xp.einsum(
            'lab,lbc,abc->', steps[1:-1], transitions[2:], tables.prev_entries
        )
    )


def one_hot(
    architecture: AutoDeepLabArchitecture,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities under which an architecture is the only one.

    An edge of the cell carries its primitive, or ``none``, with probability
    1. Two connections that read the same state share its edge.

    Returns:
        tuple[np.ndarray, np.ndarray]: Alphas (edges, 8) and betas (L, 4, 3),
        as after the softmaxes, but sources that the path avoids have 0.
    """
    alphas = np.zeros((num_edges(architecture.num_blocks), len(PRIMITIVES)))
    for b, block in enumerate(architecture.cell):
        for state, op in block:
            alphas[block_edges(b)[state], index_of(op)] += 1
    alphas /= alphas.sum(1, keepdims=True).clip(1)
    alphas[:, index_of('none')] = 1 - alphas.sum(1)
    betas = np.zeros((architecture.num_layers, NUM_LEVELS, len(DIRECTIONS)))
    source = 0
    for layer, level in enumerate(architecture.levels):
        betas[layer, source, DIRECTIONS.index(level - source)] = 1
        source = level
    return alphas, betas


class _Counter:
    """Multiply-adds or parameters of a module; ``rate`` is its output's."""

    def __init__(self, quantity: str, shape: Sequence[int]) -> None:
        self.parameters = quantity == 'parameters'
        self.shape = shape

    def convolution(
        self, inputs: int, outputs: int, kernel: int, rate: int
    ) -> int:
        weights = inputs * outputs * kernel**2
        if self.parameters:
            return weights
        height, width = ((n + rate - 1) // rate for n in self.shape)
        return weights * height * width

    def unit(self, inputs: int, outputs: int, kernel: int, rate: int) -> int:
        """A convolution and its norm."""
        norm = 2 * outputs if self.parameters else 0
        return self.convolution(inputs, outputs, kernel, rate) + norm

    def operation(
        self, primitive: Primitive, channels: int, stride: int, rate: int
    ) -> int:
        return sum(
            (self.unit if conv.norm else self.convolution)(
                1 if conv.depthwise else channels, channels, conv.kernel, rate
            )
            for conv in primitive.convs_at(stride)
        )
