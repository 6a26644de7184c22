"""Cells and paths as pictures, and what any drawing is made of."""

from collections.abc import Container, Sequence
from typing import Any, Optional

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
from matplotlib.path import Path

from ..arch import (
    PRIMITIVES,
    RATES,
    AutoDeepLabArchitecture,
    Connection,
    DPCArchitecture,
    incoming,
    levels_at,
)
from ..arch.dpc import FEATURE
from ..arch.primitives import BLUE, GREY, YELLOW

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

    Args:
        cell (Sequence): The pair of connections of each block.
        outputs (Container[int], optional): States that go into the output:
            every block by default.

    Attributes:
        depths (list[int]): The column of each state.
        columns (list[dict]): Height of each state, or of its lane, by column.
        left (list[float]): Left end of each column, and of the output.
        height (float): Of the whole, centred at 0.
    """

    def __init__(
        self,
        cell: Sequence[tuple[Connection, Connection]],
        outputs: Optional[Container[int]] = None,
    ) -> None:
        self._cell = cell
        self.depths, last_read = [0, 0], [0, 0]
        for block in cell:
            depth = 1 + max(self.depths[c.input] for c in block)
            self.depths.append(depth)
            last_read.append(depth)
            for c in block:
                last_read[c.input] = max(last_read[c.input], depth)
        end = max(self.depths) + 1
        for state in range(2, len(last_read)):
            if outputs is None or state in outputs:
                last_read[state] = end

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
        draw_box(ax, 0, y, INPUT_WIDTH, 2.6, text, fontsize=11)

    heights = []
    for block in range(architecture.num_blocks):
        _draw_block(ax, layout, block)
        points = layout.wire(block + 2, end)
        heights.append(points[-1][1])
        draw_wire(ax, [*points, (right, heights[-1])], color=FAINT, zorder=1)

    middle = (max(heights) + min(heights)) / 2
    height = max(heights) - min(heights) + 4
    draw_box(ax, right, middle, 2, height, 'concat', rotation=90)
    draw_wire(ax, [(right + 2, middle), (right + 3.5, middle)])
    draw_text(ax, right + 4.8, middle, '$H^l$', fontsize=11)
    return figure


def _draw_block(ax, layout, block):
    state = block + 2
    depth = layout.depths[state]
    left, y = layout.left[depth], layout.columns[depth][state]
    x = left + BOX[0] + 2 + SUM_RADIUS
    for connection, height in layout.operations(block):
        points = layout.wire(connection.input, depth)
        draw_wire(ax, [*points, (left, height)])
        draw_wire(ax, [(left + BOX[0], height), (x, y)])
        row = PRIMITIVES[connection.op]
        draw_box(ax, left, height, *BOX, row.label, row.color)
    ax.add_patch(Circle((x, y), SUM_RADIUS, fc='white', ec=INK, zorder=3))
    draw_text(ax, x, y, f'{state}')


def draw_box(
    ax: Axes,
    left: float,
    y: float,
    width: float,
    height: float,
    text: str,
    color: str = 'white',
    **kwargs: Any,
) -> None:
    """Draw a box with a text in it; ``kwargs`` are those of the text."""
    corner = (left, y - height / 2)
    style = dict(boxstyle='round,pad=0,rounding_size=0.3', lw=0.8, zorder=3)
    ax.add_patch(
        FancyBboxPatch(corner, width, height, fc=color, ec=INK, **style)
    )
    draw_text(ax, left + width / 2, y, text, **kwargs)


def draw_text(
    ax: Axes,
    x: float,
    y: float,
    text: str,
    fontsize: float = 7.5,
    **kwargs: Any,
) -> None:
    """Draw a text around a point."""
    style = dict(ha='center', va='center', color=INK, zorder=4)
    ax.text(x, y, text, fontsize=fontsize, **style, **kwargs)


def draw_wire(
    ax: Axes,
    points: Sequence[tuple[float, float]],
    color: str = INK,
    zorder: int = 2,
) -> None:
    """Draw curves from points 0 to 1, 2 to 3, and so on, lines between."""
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
    draw_box(ax, 0, middle, FEATURE_WIDTH, 2.6, 'feature')
    for i, branch in enumerate(branches):
        left, y = first + step * (depths[i] - 1), heights[i]
        draw_wire(ax, [(left - GAP, heights[branch.input]), (left, y)])
        draw_wire(
            ax, [(left + BRANCH[0], y), (right, y)], color=FAINT, zorder=1
        )
        color = COLORS[branch.op, branch.kernel]
        draw_box(ax, left, y, *BRANCH, branch.label, color)
        draw_text(ax, left + 0.8, y + BRANCH[1] / 2 + 0.7, f'{i}')
    draw_box(ax, right, middle, 2, 2 * half - 0.6, 'concat', rotation=90)
    draw_wire(ax, [(right + 2, middle), (right + 3.5, middle)])
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
