"""Cells, paths, alphas and betas as pictures."""

import io
import os.path as osp
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path

from ..arch import (
    PRIMITIVES,
    RATES,
    Architecture,
    AutoDeepLabArchitecture,
    incoming,
    levels_at,
)
from ..errors import UserError
from ..files import write_atomically
from .cell_layout import BOX, INPUT_WIDTH, CellLayout, Points
from .heat_map import HeatMap, alpha_map, beta_map

FORMATS = ('svg', 'png')
INK, FAINT, CHOSEN = '#222222', '#B8B8B8', '#0072B2'
# Of probabilities; the lowest can be told from white, where nothing is.
SHADES = mpl.colormaps['Blues'](np.linspace(0.08, 1, 64))
FRAME = '#D55E00'
INPUTS = ('$H^{l-1}$', '$H^{l-2}$')
INCHES = 0.13  # per unit
SUM_RADIUS = 0.9


def draw_cell(architecture: AutoDeepLabArchitecture) -> Figure:
    """Draw the cell as a graph, from its inputs to its output.

    A block is its two primitives and their sum, with the index of the state
    that it makes. Wires to the output, the concatenation of all blocks, are
    faint.

    Args:
        architecture (AutoDeepLabArchitecture): What to draw.

    Returns:
        Figure: The picture.
    """
    layout = CellLayout(architecture.cell)
    right = layout.left[-1]
    # The concatenation is a little higher than what goes into it.
    top = layout.height / 2 + 0.6
    fig, ax = _canvas(-1, right + 6.5, -top, top)
    for state, text in enumerate(INPUTS):
        y = layout.columns[0][state]
        _box(ax, 0, y, INPUT_WIDTH, 2.6)
        _text(ax, INPUT_WIDTH / 2, y, text, fontsize=11)

    end = len(layout.columns)
    heights = []
    for block in range(architecture.num_blocks):
        _draw_block(ax, layout, block)
        points = layout.wire(block + 2, end)
        heights.append(points[-1][1])
        _draw_wire(ax, [*points, (right, heights[-1])], FAINT, zorder=1)

    middle = (max(heights) + min(heights)) / 2
    _box(ax, right, middle, 2, max(heights) - min(heights) + 4)
    _text(ax, right + 1, middle, 'concat', rotation=90)
    _draw_wire(ax, [(right + 2, middle), (right + 3.5, middle)], INK)
    _text(ax, right + 4.8, middle, '$H^l$', fontsize=11)
    return fig


def _draw_block(ax: Axes, layout: CellLayout, block: int) -> None:
    state = block + 2
    depth = layout.depths[state]
    left, y = layout.left[depth], layout.columns[depth][state]
    x = left + BOX[0] + 2 + SUM_RADIUS
    for connection, height in layout.operations(block):
        points = layout.wire(connection.input, depth)
        _draw_wire(ax, [*points, (left, height)], INK, zorder=2)
        _draw_wire(ax, [(left + BOX[0], height), (x, y)], INK, zorder=2)
        primitive = PRIMITIVES[connection.op]
        _box(ax, left, height, *BOX, primitive.color)
        _text(ax, left + BOX[0] / 2, height, primitive.label)
    ax.add_patch(Circle((x, y), SUM_RADIUS, fc='white', ec=INK, zorder=3))
    _text(ax, x, y, f'{state}')


def draw_path(architecture: AutoDeepLabArchitecture) -> Figure:
    """Draw the path on the trellis of all paths, as in the paper's Figure 3.

    Args:
        architecture (AutoDeepLabArchitecture): What to draw.

    Returns:
        Figure: The picture: the stem and the layers, counted from 1, from
        left to right; downsample rates from top to bottom.
    """
    count = architecture.num_layers

    def place(layer, level):
        return 4 * layer + 4, -3 * level

    right, lowest = place(count - 1, len(RATES) - 1)
    fig, ax = _canvas(-4.5, right + 1.5, lowest - 4.6, 1.5)
    nodes, transitions = [], []
    for layer in range(count):
        _text(ax, place(layer, 0)[0], lowest - 2, f'{layer + 1}')
        for level in levels_at(layer):
            nodes.append(place(layer, level))
            transitions += [
                (place(layer - 1, source), nodes[-1])
                for source, _ in incoming(layer, level)
            ]
    ax.add_collection(LineCollection(transitions, colors=FAINT, lw=0.8))
    ax.plot(*zip(*nodes), 'o', c=FAINT, mfc='white', ms=6, zorder=2)
    for level, rate in enumerate(RATES):
        _text(ax, -2.4, -3 * level, f'{rate}')
    _text(ax, right / 2, lowest - 3.8, 'layer')
    _text(ax, 0, lowest - 2, 'stem')
    _text(ax, -3.9, lowest / 2, 'downsample rate', rotation=90)

    chosen = [place(-1, 0)] + [
        place(layer, level) for layer, level in enumerate(architecture.levels)
    ]
    ax.plot(*zip(*chosen), 'o-', c=CHOSEN, lw=2.5, ms=10, zorder=3)
    return fig


def draw_alphas(alphas: np.ndarray) -> Figure:
    """Draw the softmaxed alphas, edges by primitives.

    What the cell is decoded to is framed.

    Args:
        alphas (np.ndarray): Shape (edges, 8), before the softmax.

    Returns:
        Figure: The picture.
    """
    return _draw_heat_map(alpha_map(alphas), 'primitive', 5.5, 11)


def draw_betas(betas: np.ndarray) -> Figure:
    """Draw the softmaxed betas, transitions by layers.

    The transitions of the decoded path are framed; what does not exist is
    blank.

    Args:
        betas (np.ndarray): Shape (L, 4, 3), before the softmax.

    Returns:
        Figure: The picture: rows name the downsample rates of the source and
        of the target.
    """
    return _draw_heat_map(beta_map(betas), 'layer', 3, 6)


def _draw_heat_map(
    table: HeatMap, column_name: str, width: float, margin: float
) -> Figure:
    height, scale = 2, 6
    rows, columns = table.values.shape
    right, lowest = columns * width, -rows * height
    fig, ax = _canvas(-margin, right + scale, lowest - 2, 6.5)
    # From the lowest on: they differ little for most of a search.
    low, high = np.nanmin(table.values), np.nanmax(table.values)
    colors = dict(cmap=ListedColormap(SHADES), vmin=low, vmax=high)
    ax.pcolormesh(
        np.arange(columns + 1) * width,
        np.arange(rows + 1) * -height,
        # Nothing is drawn where nothing exists.
        np.ma.masked_invalid(table.values),
        edgecolors='white',
        **colors,
    )
    for row, column in np.argwhere(table.chosen):
        ax.add_patch(
            Rectangle(
                (column * width, -row * height),
                *(width, -height),
                fc='none',
                ec=FRAME,
                lw=2,
                zorder=3,
            )
        )
    for row, name in enumerate(table.rows):
        _text(ax, -margin / 2, -(row + 0.5) * height, name)
    for column, name in enumerate(table.columns):
        name = name.replace(' ', '\n')
        _text(ax, (column + 0.5) * width, 2.2, name)
    _text(ax, right / 2, 5.4, column_name)

    # The scale of the colours.
    x, steps = right + scale / 3, np.linspace(low, high, len(SHADES))
    ys = np.linspace(lowest, 0, len(steps) + 1)
    ax.pcolormesh([x, x + 1], ys, steps[:, None], **colors)
    _text(ax, x + 0.5, lowest - 1, f'{low:.3f}')
    _text(ax, x + 0.5, 1, f'{high:.3f}')
    _text(ax, x + 2.2, lowest / 2, 'probability', rotation=90)
    return fig


def drawings_of(architecture: Architecture) -> dict[str, Callable]:
    """The functions that draw an architecture of this kind, by name.

    Raises:
        UserError: No drawing is known for the kind.
    """
    for kind, drawings in DRAWINGS.items():
        if isinstance(architecture, kind):
            return drawings
    raise UserError(
        f'An architecture of schema {architecture.schema!r} cannot be drawn; '
        f'{" and ".join(repr(kind.schema) for kind in DRAWINGS)} can.'
    )


def drawing_files(architecture: Architecture, out_dir: str) -> list[str]:
    """What :func:`save_drawings` writes into a folder."""
    return [
        osp.join(out_dir, f'{name}.{kind}')
        for name in drawings_of(architecture)
        for kind in FORMATS
    ]


def save_drawings(architecture: Architecture, out_dir: str) -> None:
    """Write what is drawn as SVG and PNG, each complete or not at all.

    Args:
        architecture (Architecture): What to draw, such as cell and path.
        out_dir (str): Folder; made if it does not exist.
    """
    for name, draw in drawings_of(architecture).items():
        figure = draw(architecture)
        for kind in FORMATS:
            file = osp.join(out_dir, f'{name}.{kind}')
            write_atomically(file, render(figure, kind))


def render(figure: Figure, kind: str) -> bytes:
    """A figure as a file; the same figure gives the same bytes.

    Args:
        figure (Figure): The figure.
        kind (str): ``'svg'`` or ``'png'``.
    """
    buffer = io.BytesIO()
    # Dates and random names would make every file another one.
    with mpl.rc_context({'svg.hashsalt': 'mmseg_autodeeplab'}):
        figure.savefig(
            buffer,
            format=kind,
            dpi=200,
            facecolor='white',
            metadata=dict(Date=None) if kind == 'svg' else None,
        )
    return buffer.getvalue()


def as_image(figure: Figure) -> np.ndarray:
    """A figure as pixels.

    Args:
        figure (Figure): The figure.

    Returns:
        np.ndarray: RGB, uint8, shape (height, width, 3).
    """
    figure.set_dpi(120)
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]


def _canvas(
    left: float, right: float, bottom: float, top: float
) -> tuple[Figure, Axes]:
    """A figure whose axes fill it, of so many units."""
    fig = Figure(((right - left) * INCHES, (top - bottom) * INCHES))
    FigureCanvasAgg(fig)
    ax = fig.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(bottom, top))
    ax.set_axis_off()
    return fig, ax


def _box(ax, left, y, width, height, color='white') -> None:
    ax.add_patch(
        FancyBboxPatch(
            (left, y - height / 2),
            width,
            height,
            boxstyle='round,pad=0,rounding_size=0.3',
            fc=color,
            ec=INK,
            lw=0.8,
            zorder=3,
        )
    )


def _text(ax, x, y, text, fontsize=7.5, **kwargs) -> None:
    ax.text(
        *(x, y, text),
        ha='center',
        va='center',
        color=INK,
        fontsize=fontsize,
        zorder=4,
        **kwargs,
    )


def _draw_wire(ax: Axes, points: Points, color: str, zorder: int = 2) -> None:
    """Curves from the 1st point to the 2nd, from the 3rd to the 4th, ...

    Straight lines join them.
    """
    vertices, codes = [points[0]], [Path.MOVETO]
    for start, stop in zip(points[::2], points[1::2]):
        middle = (start[0] + stop[0]) / 2
        vertices += [start, (middle, start[1]), (middle, stop[1]), stop]
        codes += [Path.LINETO] + [Path.CURVE4] * 3
    path = Path(vertices, codes)
    ax.add_patch(PathPatch(path, fc='none', ec=color, lw=1, zorder=zorder))


# What is drawn of each kind of architectures.
DRAWINGS = {AutoDeepLabArchitecture: dict(cell=draw_cell, path=draw_path)}
