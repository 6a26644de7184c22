"""Where the parts of a drawn cell stand."""

from collections.abc import Sequence

from ..arch import Connection

# In units of about a line of text.
BOX = (9.4, 1.8)  # of a primitive
INPUT_WIDTH = 3.6
BLOCK_WIDTH = BOX[0] + 3.6  # with the sum
BLOCK_HEIGHT = 2 * BOX[1] + 1.6
WIRE_HEIGHT = 1.2
GAP = 4.0

Points = list[tuple[float, float]]


class CellLayout:
    """Columns of blocks, with lanes for the wires that pass between them.

    A block stands in the first column to the right of all that it reads, and
    what is read further on has a lane in every column between. So no wire
    passes behind a block. Within a column, things are in the order of what
    they come from.

    Args:
        cell (Sequence): One pair of connections per block.

    Attributes:
        depths (list[int]): The column of each state.
        columns (list[dict]): Height of each state, or of its lane, by column.
        left (list[float]): Left end of each column, and of the output.
        height (float): Of the whole, centred at 0.
    """

    def __init__(self, cell: Sequence[tuple[Connection, Connection]]) -> None:
        self._cell = cell
        self.depths = [0, 0]
        last_read = [0, 0]
        for block in cell:
            depth = 1 + max(self.depths[c.input] for c in block)
            for c in block:
                last_read[c.input] = max(last_read[c.input], depth)
            self.depths.append(depth)
            last_read.append(depth)
        end = max(self.depths) + 1
        # Every block goes into the output.
        last_read[2:] = [end] * len(cell)

        self.columns = [{0: 2.0, 1: -2.0}]
        self.height = 8.0
        for column in range(1, end):
            self.columns.append(self._stack(column, last_read))
        self.left = [0.0]
        for width in [INPUT_WIDTH] + [BLOCK_WIDTH] * (end - 1):
            self.left.append(self.left[-1] + width + GAP)

    def _stack(self, column: int, last_read: list[int]) -> dict[int, float]:
        before = self.columns[-1]
        origins, heights = {}, {}
        for state, depth in enumerate(self.depths):
            if depth == column:
                block = self._cell[state - 2]
                origins[state] = sum(before[c.input] for c in block) / 2
                heights[state] = BLOCK_HEIGHT
            elif depth < column < last_read[state]:
                origins[state] = before[state]
                heights[state] = WIRE_HEIGHT
        total = sum(heights.values())
        self.height = max(self.height, total + 2)
        y = total / 2
        places = {}
        for state in sorted(origins, key=origins.get, reverse=True):
            places[state] = y - heights[state] / 2
            y -= heights[state]
        return places

    def operations(self, block: int) -> list[tuple[Connection, float]]:
        """The connections of a block from top to bottom, and their heights."""
        state = block + 2
        before = self.columns[self.depths[state] - 1]
        y = self.columns[self.depths[state]][state]
        offset = (BLOCK_HEIGHT - BOX[1]) / 2 - 0.5
        pair = sorted(
            self._cell[block], key=lambda c: before[c.input], reverse=True
        )
        return [(pair[0], y + offset), (pair[1], y - offset)]

    def wire(self, state: int, column: int) -> Points:
        """Ends of the straight parts of a wire.

        Args:
            state (int): Where it comes from.
            column (int): Where it ends: on the left of this column.

        Returns:
            list: Points (x, y): right end of the state, then both ends of
            each lane.
        """
        points = []
        for c in range(self.depths[state], column):
            y = self.columns[c][state]
            if c > self.depths[state]:
                points.append((self.left[c], y))
            points.append((self.left[c + 1] - GAP, y))
        return points
