"""Edges of a cell and transitions of the trellis: what an index means.

Cell level (Auto-DeepLab, Sec. 3.1): a cell has ``B`` blocks. Its states are
0 = output of the previous cell, 1 = output of the cell before that, and
``2 + b`` = output of block ``b``. Block ``b`` may read states ``0 .. b + 1``;
each (block, state) pair is an edge, and an edge carries one primitive. Edges
are ordered by block, then by state.

Network level (Sec. 3.2): layer ``l = 0 .. L - 1`` holds one node per scale.
Scales are named by downsample rate, 4 * 2 ** level. A transition
``[l, source level, direction]`` leads into layer ``l`` from a source of layer
``l - 1``; the source of layer 0 is the stem, at level 0.
"""

import math

import numpy as np

RATES = (4, 8, 16, 32)
NUM_LEVELS = len(RATES)

DIRECTIONS = (-1, 0, 1)  # what a transition adds to the level
# Below this every one of the four scales exists in the last layer.
MIN_LAYERS = 3


def num_edges(num_blocks: int) -> int:
    """Number of (block, state) pairs of a cell: 20 for 5 blocks."""
    return num_blocks * (num_blocks + 3) // 2


def block_edges(block: int) -> range:
    """Indices of the edges that enter a block; the n-th reads state n."""
    return range(num_edges(block), num_edges(block + 1))


def num_blocks_of(num_edges_: int) -> int:
    """The number of blocks of a cell with that many edges.

    Raises:
        ValueError: No cell has that many edges.
    """
    blocks = (math.isqrt(9 + 8 * num_edges_) - 3) // 2
    if blocks < 1 or num_edges(blocks) != num_edges_:
        raise ValueError(
            f'A cell of B >= 1 blocks has B (B + 3) / 2 edges (2, 5, 9, 14, '
            f'20, ...), but {num_edges_} edges were found; give alphas with '
            'one row per edge.'
        )
    return blocks


def levels_at(layer: int) -> range:
    """Levels that exist in a layer; layer -1 is the stem."""
    return range(min(layer + 2, NUM_LEVELS))


def reachable(level: int) -> range:
    """Levels of the next layer that a transition from here leads to."""
    return range(max(level - 1, 0), min(level + 2, NUM_LEVELS))


def incoming(layer: int, level: int) -> list[tuple[int, int]]:
    """Pairs (source level, direction) into a node, finest source first."""
    return [
        (source, DIRECTIONS.index(level - source))
        for source in reachable(level)
        if source in levels_at(layer - 1)
    ]


def transition_mask(num_layers: int) -> np.ndarray:
    """Which transitions exist, as booleans of shape (num_layers, 4, 3)."""
    mask = np.zeros((num_layers, NUM_LEVELS, len(DIRECTIONS)), dtype=bool)
    for layer in range(num_layers):
        for level in levels_at(layer):
            for source, direction in incoming(layer, level):
                mask[layer, source, direction] = True
    return mask


def count_paths(num_layers: int, start: int = 0) -> int:
    """Number of paths of so many transitions from a level: 75 025 for 12.

    The paper's 2.9e4 is the same count with the first layer held at
    stride 4, that is with 11 free transitions.
    """
    paths = [int(level == start) for level in range(NUM_LEVELS)]
    for _ in range(num_layers):
        paths = [
            sum(paths[source] for source in reachable(level))
            for level in range(NUM_LEVELS)
        ]
    return sum(paths)
