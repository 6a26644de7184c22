"""Cells and paths as pictures, and pictures as files."""

import io
import os.path as osp
from collections.abc import Callable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
from matplotlib.path import Path

from ..arch import (
    PRIMITIVES,
    RATES,
    Architecture,
    AutoDeepLabArchitecture,
    Connection,
    DPCArchitecture,
    incoming,
    levels_at,
)
from ..arch.dpc import FEATURE
from ..arch.primitives import BLUE, GREY, YELLOW
from ..errors import UserError
from ..files import write_atomically

FORMATS = ('svg', 'png')
INK, FAINT, CHOSEN = '#222222', '#B8B8B8', '#0072B2'
INCHES = 0.13  # per unit, which is about a line of text
BOX = (9.4, 1.8)  # of a primitive
SUM_RADIUS = 0.9
INPUT_WIDTH = 3.6
BLOCK_WIDTH = BOX[0] + 3.6  # with the sum
BLOCK_HEIGHT = 2 * BOX[1] + 1.6
WIRE_HEIGHT = 1.2
GAP = 4.0
FEATURE_WIDTH = 5.0
BRANCH = (12.6, 1.8)  # of a branch of a dense prediction cell
BRANCH_HEIGHT = 4.0  # with what is around it
# Of its operation and kernel.
COLORS = {
    ('conv', 1): GREY,
    ('conv', 3): BLUE,
    ('pyramid_pooling', None): YELLOW,
}


class CellLayout:
    """Columns of blocks, with lanes for the wires that pass between them.

    A block stands in the first column to the right of all that it reads; what
    is read further on has a lane in every column between. Within a column,
    things are in the order of what they come from.

    Attributes:
        depths (list[int]): The column of each state.
        columns (list[dict]): Height of each state, or of its lane, by column.
        left (list[float]): Left end of each column, and of the output.
        height (float): Of the whole, centred at 0.
    """

    def __init__(self, cell: Sequence[tuple[Connection, Connection]]) -> None:
        self._cell = cell
        self.depths, last_read = [0, 0], [0, 0]
        for block in cell:
            depth = 1 + max(self.depths[c.input] for c in block)
            self.depths.append(depth)
            for c in block:
                if c.input < 2:
                    last_read[c.input] = max(last_read[c.input], depth)
        end = max(self.depths) + 1
        last_read += [end] * len(cell)  # Every block goes into the output.

        self.columns = [{0: 2.0, 1: -2.0}]
        self.height = 8.0
        for column in range(1, end):
            before = self.columns[-1]
            parts = []  # (where it comes from, state, height)
            for state, depth in enumerate(self.depths):
                if depth == column:
                    y = sum(before[c.input] for c in cell[state - 2]) / 2
                    parts.append((y, state, BLOCK_HEIGHT))
                elif depth < column < last_read[state]:
                    parts.append((before[state], state, WIRE_HEIGHT))
            top = sum(height for *_, height in parts) / 2
            self.height = max(self.height, 2 * top + 2)
            self.columns.append({})
            for _, state, height in sorted(parts, key=lambda part: -part[0]):
                self.columns[-1][state] = top - height / 2
                top -= height
        first, step = INPUT_WIDTH + GAP, BLOCK_WIDTH + GAP
        self.left = [0.0, *(first + column * step for column in range(end))]

    def operations(self, block: int) -> list[tuple[Connection, float]]:
        """The connections of a block from top to bottom, and their heights."""
        column = self.depths[block + 2]
        before, y = self.columns[column - 1], self.columns[column][block + 2]
        offset = (BLOCK_HEIGHT - BOX[1]) / 2 - 0.5
        upper, lower = sorted(
            self._cell[block], key=lambda c: before[c.input], reverse=True
        )
        return [(upper, y + offset), (lower, y - offset)]

    def wire(self, state: int, column: int) -> list[tuple[float, float]]:
        """Points (x, y) of a wire that ends to the left of a column.

        The right end of the state, then both ends of each lane.
        """
        first = self.depths[state]
        return [
            (x, self.columns[c][state])
            for c in range(first, column)
            for x in (self.left[c], self.left[c + 1] - GAP)
        ][1:]


def draw_cell(architecture: AutoDeepLabArchitecture) -> Figure:
    """Draw the cell as a graph, from its inputs to its output.

    A block is its two primitives and their sum, with the index of the state
    that it makes. Wires to the output, the concatenation of all blocks, are
    faint.
    """
    layout = CellLayout(architecture.cell)
    end, right = len(layout.columns), layout.left[-1]
    # The concatenation is a little higher than what goes into it.
    width, height = right + 7.5, layout.height + 1.2
    figure = Figure((width * INCHES, height * INCHES))
    ax = figure.add_axes(
        (0, 0, 1, 1), xlim=(-1, right + 6.5), ylim=(-height / 2, height / 2)
    )
    ax.set_axis_off()
    for state, text in enumerate(('$H^{l-1}$', '$H^{l-2}$')):
        y = layout.columns[0][state]
        _box(ax, 0, y, INPUT_WIDTH, 2.6, text, fontsize=11)

    heights = []
    for block in range(architecture.num_blocks):
        _draw_block(ax, layout, block)
        points = layout.wire(block + 2, end)
        heights.append(points[-1][1])
        _wire(ax, [*points, (right, heights[-1])], color=FAINT, zorder=1)

    middle = (max(heights) + min(heights)) / 2
    height = max(heights) - min(heights) + 4
    _box(ax, right, middle, 2, height, 'concat', rotation=90)
    _wire(ax, [(right + 2, middle), (right + 3.5, middle)])
    _text(ax, right + 4.8, middle, '$H^l$', fontsize=11)
    return figure


def _draw_block(ax, layout, block):
    state = block + 2
    depth = layout.depths[state]
    left, y = layout.left[depth], layout.columns[depth][state]
    x = left + BOX[0] + 2 + SUM_RADIUS
    for connection, height in layout.operations(block):
        points = layout.wire(connection.input, depth)
        _wire(ax, [*points, (left, height)])
        _wire(ax, [(left + BOX[0], height), (x, y)])
        row = PRIMITIVES[connection.op]
        _box(ax, left, height, *BOX, row.label, row.color)
    ax.add_patch(Circle((x, y), SUM_RADIUS, fc='white', ec=INK, zorder=3))
    _text(ax, x, y, f'{state}')


def _box(ax, left, y, width, height, text, color='white', **kwargs):
    corner = (left, y - height / 2)
    style = dict(boxstyle='round,pad=0,rounding_size=0.3', lw=0.8, zorder=3)
    ax.add_patch(
        FancyBboxPatch(corner, width, height, fc=color, ec=INK, **style)
    )
    _text(ax, left + width / 2, y, text, **kwargs)


def _text(ax, x, y, text, fontsize=7.5, **kwargs):
    style = dict(ha='center', va='center', color=INK, zorder=4)
    ax.text(x, y, text, fontsize=fontsize, **style, **kwargs)


def _wire(ax, points, color=INK, zorder=2):
    """Curves from the 1st point to the 2nd, from the 3rd to the 4th, ..."""
    vertices, codes = [points[0]], [Path.MOVETO]
    for start, stop in zip(points[::2], points[1::2]):
        middle = (start[0] + stop[0]) / 2
        vertices += [start, (middle, start[1]), (middle, stop[1]), stop]
        codes += [Path.LINETO] + [Path.CURVE4] * 3
    path = Path(vertices, codes)
    ax.add_patch(PathPatch(path, fill=False, ec=color, lw=1, zorder=zorder))


def draw_path(architecture: AutoDeepLabArchitecture) -> Figure:
    """Draw the path on the trellis of all paths, as in the paper's Figure 3.

    The stem and the layers, counted from 1, are from left to right;
    downsample rates from top to bottom.
    """
    layers = range(architecture.num_layers)
    nodes = [(layer, n) for layer in layers for n in levels_at(layer)]
    transitions = [
        ((layer - 1, source), (layer, level))
        for layer, level in nodes
        for source, _ in incoming(layer, level)
    ]
    size = (4 * len(layers) + 10) * INCHES, 15 * INCHES
    figure = Figure(size, layout='constrained')
    ax = figure.add_subplot(xlabel='layer', ylabel='downsample rate')
    ax.add_collection(LineCollection(transitions, colors=FAINT, lw=0.8))
    ax.plot(*zip(*nodes), 'o', c=FAINT, mfc='white', ms=6)
    chosen = [0, *architecture.levels]
    ax.plot(range(-1, len(layers)), chosen, 'o-', c=CHOSEN, lw=2.5, ms=10)
    names = ['stem', *(f'{layer + 1}' for layer in layers)]
    ax.set_xticks(range(-1, len(layers)), names)
    ax.set_yticks(range(len(RATES)), RATES)
    ax.set_ylim(len(RATES) - 0.7, -0.3)
    ax.tick_params(length=0, labelsize=7.5)
    ax.set_frame_on(False)
    return figure


def draw_dpc(architecture: DPCArchitecture) -> Figure:
    """Draw a dense prediction cell, from the feature to the concatenation.

    A branch stands to the right of what it reads, with its number, in a row of
    its own. The wire in that row, to the concatenation, is faint.
    """
    branches = architecture.branches
    depths, rows = {FEATURE: 0}, _rows_of(branches)
    for i, branch in enumerate(branches):
        depths[i] = depths[branch.input] + 1

    step, first = BRANCH[0] + GAP, FEATURE_WIDTH + GAP
    right = first + step * max(depths.values())
    half = len(branches) * BRANCH_HEIGHT / 2
    width, height = right + 5.5, 2 * half + 1
    figure = Figure((width * INCHES, height * INCHES))
    ax = figure.add_axes(
        (0, 0, 1, 1), xlim=(-1, right + 4.5), ylim=(-height / 2, height / 2)
    )
    ax.set_axis_off()
    heights = {
        i: half - (row + 0.5) * BRANCH_HEIGHT for i, row in rows.items()
    }
    middle = sum(heights.values()) / len(heights)
    heights[FEATURE] = middle
    _box(ax, 0, middle, FEATURE_WIDTH, 2.6, 'feature')
    for i, branch in enumerate(branches):
        left, y = first + step * (depths[i] - 1), heights[i]
        _wire(ax, [(left - GAP, heights[branch.input]), (left, y)])
        _wire(ax, [(left + BRANCH[0], y), (right, y)], color=FAINT, zorder=1)
        color = COLORS[branch.op, branch.kernel]
        _box(ax, left, y, *BRANCH, branch.label, color)
        _text(ax, left + 0.8, y + BRANCH[1] / 2 + 0.7, f'{i}')
    _box(ax, right, middle, 2, 2 * half - 0.6, 'concat', rotation=90)
    _wire(ax, [(right + 2, middle), (right + 3.5, middle)])
    return figure


def _rows_of(branches):
    """The row of each branch, in the middle of those that read it."""

    def order(source):
        readers = [i for i, b in enumerate(branches) if b.input == source]
        half = len(readers) // 2
        upper, lower = (
            [*map(order, p)] for p in (readers[:half], readers[half:])
        )
        own = [] if source == FEATURE else [source]
        return sum(upper, []) + own + sum(lower, [])

    return {branch: row for row, branch in enumerate(order(FEATURE))}


# What is drawn of each kind of architectures.
DRAWINGS = {
    AutoDeepLabArchitecture: dict(cell=draw_cell, path=draw_path),
    DPCArchitecture: dict(cell=draw_dpc),
}


def drawings_of(architecture: Architecture) -> dict[str, Callable]:
    """The functions that draw an architecture of this kind, by name."""
    if type(architecture) not in DRAWINGS:
        raise UserError(
            f'An architecture of schema {architecture.schema!r} cannot be '
            f'drawn; {" and ".join(repr(k.schema) for k in DRAWINGS)} can.'
        )
    return DRAWINGS[type(architecture)]


def drawing_files(architecture: Architecture, out_dir: str) -> list[str]:
    """What :func:`save_drawings` writes into a folder."""
    return [
        osp.join(out_dir, f'{name}.{kind}')
        for name in drawings_of(architecture)
        for kind in FORMATS
    ]


def save_drawings(architecture: Architecture, out_dir: str) -> None:
    """Write what is drawn as SVG and PNG, each complete or not at all."""
    for name, draw in drawings_of(architecture).items():
        figure = draw(architecture)
        for kind in FORMATS:
            file = osp.join(out_dir, f'{name}.{kind}')
            write_atomically(file, render(figure, kind))


def render(figure: Figure, kind: str) -> bytes:
    """A figure as an SVG or PNG file; the same one gives the same bytes."""
    buffer = io.BytesIO()
    # Dates and random names would make every file another one.
    metadata = dict(Date=None) if kind == 'svg' else None
    with mpl.rc_context({'svg.hashsalt': 'mmseg_autodeeplab'}):
        figure.savefig(
            buffer, format=kind, dpi=200, facecolor='white', metadata=metadata
        )
    return buffer.getvalue()


def as_image(figure: Figure) -> np.ndarray:
    """A figure as pixels: RGB, uint8, shape (height, width, 3)."""
    figure.set_dpi(120)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
