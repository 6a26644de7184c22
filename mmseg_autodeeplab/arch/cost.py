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

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from .autodeeplab import AutoDeepLabArchitecture
from .primitives import PRIMITIVES, Conv, index_of
from .trellis import DIRECTIONS, NUM_LEVELS, RATES, block_edges, num_edges

QUANTITIES = ('multiply_adds', 'parameters')


class CostTables(NamedTuple):
    """All that :func:`expected_cost` needs beside the probabilities."""

    stem: Any
    #: (L, 4, 4), ``[l, b, c]``: the projection of a cell's first input, and
    #: in layers 0 and 1, where the second one comes from the stem, of that.
    entries: Any
    #: (4, 4, 4), ``[a, b, c]``: that of the second input from layer 2 on.
    prev_entries: Any
    #: (4, 4, edges, 8), ``[b, c, edge, primitive]``: two of this operation,
    #: as a block has two.
    operations: Any
    #: (edges, edges, 8), ``[edge, other, primitive]``: 1 where both edges
    #: enter one block, for every primitive but ``none``.
    rivals: Any
    #: (4, 3, 4), ``[b, direction, c]``: 1 where this leads to c.
    targets: Any


def cost_tables(
    num_blocks: int,
    num_layers: int,
    quantity: str = 'multiply_adds',
    shape: Sequence[int] = (1025, 2049),
    filter_multiplier: int = 20,
    stem_channels: int = 64,
    in_channels: int = 3,
) -> CostTables:
    """Count every part that a derived network can have, in float64.

    The quantity is ``'multiply_adds'``, of convolutions on an image of a
    height and width, or ``'parameters'``, of convolutions and affine norms;
    filters and channels are those of the derived network.
    """
    if quantity not in QUANTITIES:
        raise UserError(
            f'The quantity of a cost is {quantity!r}, but must be '
            f'{" or ".join(map(repr, QUANTITIES))}.'
        )
    rows = list(PRIMITIVES.values())
    stem_out = 2 * stem_channels
    widths = [filter_multiplier * 2**level for level in range(NUM_LEVELS)]
    outputs = [num_blocks * width for width in widths]
    # Of each edge, the state that it reads, and its block.
    states = [n for block in range(num_blocks) for n in range(block + 2)]
    blocks = [block for block in range(num_blocks) for _ in range(block + 2)]

    pointwise = Conv(1)

    def unit(inputs, outputs, rate, conv=pointwise):
        """A convolution and its norm; the rate is that of the output."""
        inputs = 1 if conv.depthwise else inputs
        weights = inputs * outputs * conv.kernel**2
        if quantity == 'parameters':
            return weights + 2 * outputs * conv.norm
        return weights * math.prod(-(-size // rate) for size in shape)

    def projection(channels, b, c):
        # Upsampling comes before a cell, the stride is inside it: the inputs
        # are projected at the finer of both scales.
        return unit(channels, widths[c], RATES[min(b, c)])

    def prev_projection(channels, b, c):
        # AutoDeepLab leaves a second input alone that has the width already.
        return 0 if channels == widths[c] else projection(channels, b, c)

    def entry(layer, b, c):
        cost = projection(outputs[b] if layer else stem_out, b, c)
        if layer < 2:
            stem = (stem_channels, stem_out)[layer]
            cost += prev_projection(stem, b, c)
        return cost

    def operation(b, c, edge, index):
        convs = rows[index].convs_at(2 if c > b and states[edge] < 2 else 1)
        width, rate = widths[c], RATES[c]
        return 2 * sum(unit(width, width, rate, conv) for conv in convs)

    stem = (
        unit(in_channels, stem_channels, 2, Conv(3))
        + unit(stem_channels, stem_channels, 2, Conv(3))
        + unit(stem_channels, stem_out, RATES[0], Conv(3))
    )
    pair = (NUM_LEVELS, NUM_LEVELS)
    some = np.array([float(row.is_decodable) for row in rows])
    return CostTables(
        np.array(stem, dtype=float),
        _table(entry, num_layers, *pair),
        _table(
            lambda a, b, c: prev_projection(outputs[a], b, c),
            *(NUM_LEVELS, *pair),
        ),
        _table(operation, *pair, len(states), len(rows)),
        np.equal.outer(blocks, blocks)[..., None] * some,
        np.stack([np.eye(NUM_LEVELS, k=step) for step in DIRECTIONS], 1),
    )


def _table(function, *shape):
    """The values of a function at all indices."""
    values = [function(*index) for index in np.ndindex(*shape)]
    return np.array(values, dtype=float).reshape(shape)


def expected_cost(
    tables: CostTables, alphas: Any, betas: Any, xp: ModuleType = np
) -> Any:
    """The expectation, in multiply-adds or parameters, as a scalar.

    Args:
        tables (CostTables): Arrays, or tensors.
        alphas: Softmaxed, (edges, 8).
        betas: Softmaxed, (L, 4, 3); 0 where no transition exists.
        xp (module): ``numpy``, or ``torch`` if all of these are tensors; then
            the result has a gradient.
    """
    transitions = xp.einsum('lbd,bdc->lbc', betas, tables.targets)
    # The probability that the path has b at layer l - 1 and c at layer l.
    # Only from the stem does anything lead into layer 0.
    steps = [transitions[0]]
    for transition in transitions[1:]:
        steps.append(steps[-1].sum(0)[:, None] * transition)
    steps = xp.stack(steps)

    shares = alphas / xp.einsum('efk,fk->e', tables.rivals, alphas)[:, None]
    cells = xp.einsum('bcek,ek->bc', tables.operations, shares)
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
    1. Two connections that read the same state share its edge. Of the betas,
    (L, 4, 3), sources that the path avoids have 0.
    """
    alphas = np.zeros((num_edges(architecture.num_blocks), len(PRIMITIVES)))
    for b, block in enumerate(architecture.cell):
        for state, op in block:
            alphas[block_edges(b)[state], index_of(op)] += 1
    alphas /= alphas.sum(1, keepdims=True).clip(1)
    alphas[:, index_of('none')] = 1 - alphas.sum(1)
    betas = np.zeros((architecture.num_layers, NUM_LEVELS, len(DIRECTIONS)))
    levels = architecture.levels
    for layer, (source, level) in enumerate(zip((0, *levels), levels)):
        betas[layer, source, DIRECTIONS.index(level - source)] = 1
    return alphas, betas
