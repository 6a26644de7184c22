"""Alphas and betas as tables: what stands where, and what was chosen."""

from typing import NamedTuple

import numpy as np

from ..arch import (
    DIRECTIONS,
    PRIMITIVES,
    RATES,
    alpha_probabilities,
    beta_probabilities,
    block_edges,
    decode_cell,
    decode_path,
    index_of,
    transition_mask,
)


class HeatMap(NamedTuple):
    """A table of probabilities.

    Attributes:
        rows (list[str]): Labels.
        columns (list[str]): Labels.
        values (np.ndarray): (rows, columns), NaN where nothing exists.
        chosen (np.ndarray): Booleans of the same shape: the decoded choice.
    """

    rows: list
    columns: list
    values: np.ndarray
    chosen: np.ndarray


def alpha_map(alphas: np.ndarray) -> HeatMap:
    """Edges of the cell by primitives.

    Blocks are named by the state that they make: 2 is the first one.

    Args:
        alphas (np.ndarray): Shape (edges, 8), before the softmax.
    """
    values = alpha_probabilities(alphas)
    chosen = np.zeros(values.shape, dtype=bool)
    rows = []
    for block, pair in enumerate(decode_cell(alphas)):
        edges = block_edges(block)
        rows += [f'block {block + 2} ← state {n}' for n in range(len(edges))]
        for connection in pair:
            column = index_of(connection.op)
            chosen[edges[connection.input], column] = True
    columns = [row.label for row in PRIMITIVES.values()]
    return HeatMap(rows, columns, values, chosen)


def beta_map(betas: np.ndarray) -> HeatMap:
    """Transitions between downsample rates by layers, counted from 1.

    Args:
        betas (np.ndarray): Shape (L, 4, 3), before the softmax.
    """
    exists = transition_mask(len(betas))
    values = np.where(exists, beta_probabilities(betas), np.nan)
    chosen = np.zeros(values.shape, dtype=bool)
    source = 0
    for layer, rate in enumerate(decode_path(betas)):
        level = RATES.index(rate)
        chosen[layer, source, DIRECTIONS.index(level - source)] = True
        source = level
    pairs = [
        (source, direction)
        for source in range(len(RATES))
        for direction in range(len(DIRECTIONS))
        if exists[:, source, direction].any()
    ]
    sources, directions = zip(*pairs)
    return HeatMap(
        [f'{RATES[s]} → {RATES[s + DIRECTIONS[d]]}' for s, d in pairs],
        [f'{layer + 1}' for layer in range(len(betas))],
        values[:, sources, directions].T,
        chosen[:, sources, directions].T,
    )
