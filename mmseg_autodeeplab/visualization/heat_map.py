"""Alphas and betas as tables: what stands where, and what was chosen.

Alphas have the shape (edges, 8), betas (L, 4, 3), before their softmaxes.
"""

from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

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

# Of probabilities; the lowest can be told from white, where nothing is.
SHADES = mpl.colormaps['Blues'](np.linspace(0.08, 1, 64))
FRAME = '#D55E00'


class HeatMap(NamedTuple):
    """A table of probabilities."""

    rows: list[str]  #: labels
    columns: list[str]  #: labels
    values: np.ndarray  #: (rows, columns), NaN where nothing exists
    chosen: np.ndarray  #: booleans of this shape: the decoded choice


def alpha_map(alphas: np.ndarray) -> HeatMap:
    """Edges of the cell by primitives; block 2 is the first one."""
    values = alpha_probabilities(alphas)
    chosen = np.zeros(values.shape, dtype=bool)
    rows = []
    for block, pair in enumerate(decode_cell(alphas)):
        edges = block_edges(block)
        rows += [f'block {block + 2} ← state {n}' for n in range(len(edges))]
        for state, op in pair:
            chosen[edges[state], index_of(op)] = True
    columns = [row.label for row in PRIMITIVES.values()]
    return HeatMap(rows, columns, values, chosen)


def beta_map(betas: np.ndarray, score: str = 'probability') -> HeatMap:
    """Transitions between downsample rates by layers, counted from 1.

    Chosen is the best path by a score, see :func:`transition_scores`.
    """
    exists = transition_mask(len(betas))
    values = np.where(exists, beta_probabilities(betas), np.nan)
    chosen = np.zeros(values.shape, dtype=bool)
    levels = [RATES.index(rate) for rate in decode_path(betas, score)]
    for layer, (source, level) in enumerate(zip([0, *levels], levels)):
        chosen[layer, source, DIRECTIONS.index(level - source)] = True
    pairs = np.argwhere(exists.any(0))
    sources, directions = pairs.T
    return HeatMap(
        [f'{RATES[s]} → {RATES[s + DIRECTIONS[d]]}' for s, d in pairs],
        [f'{layer + 1}' for layer in range(len(betas))],
        values[:, sources, directions].T,
        chosen[:, sources, directions].T,
    )


def draw_alphas(alphas: np.ndarray) -> Figure:
    """Draw the softmaxed alphas; what they are decoded to is framed."""
    return _draw(alpha_map(alphas), 'primitive', width=0.7)


def draw_betas(betas: np.ndarray, score: str = 'probability') -> Figure:
    """Draw the softmaxed betas; the path decoded by the score is framed.

    Rows name the downsample rates of the source and of the target. What does
    not exist is blank.
    """
    return _draw(beta_map(betas, score), 'layer', width=0.4)


def _draw(table, column_name, width):
    rows, columns = table.values.shape
    size = (columns * width + 2.5, rows * 0.26 + 1)
    figure = Figure(size, layout='constrained')
    ax = figure.add_subplot(xlabel=column_name)
    # From the lowest on: they differ little for most of a search.
    mesh = ax.pcolormesh(
        np.ma.masked_invalid(table.values),
        cmap=ListedColormap(SHADES),
        edgecolors='white',
    )
    for row, column in np.argwhere(table.chosen):
        style = dict(fill=False, ec=FRAME, lw=2, clip_on=False)
        ax.add_patch(Rectangle((column, row), 1, 1, **style))
    names = [name.replace(' ', '\n') for name in table.columns]
    ax.set_xticks(np.arange(columns) + 0.5, names)
    ax.set_yticks(np.arange(rows) + 0.5, table.rows)
    ax.invert_yaxis()
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position('top')
    ax.tick_params(length=0, labelsize=7.5)
    ax.set_frame_on(False)
    figure.colorbar(mesh, label='probability')
    return figure
