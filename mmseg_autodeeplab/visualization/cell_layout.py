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
            origins, heights = {}, {}
            for state, depth in enumerate(self.depths):
                if depth == column:
                    pair = cell[state - 2]
                    origins[state] = sum(before[c.input] for c in pair) / 2
                    heights[state] = BLOCK_HEIGHT
                elif depth < column < last_read[state]:
                    origins[state] = before[state]
                    heights[state] = WIRE_HEIGHT
            y = sum(heights.values()) / 2
            self.height = max(self.height, 2 * y + 2)
            self.columns.append({})
            for state in sorted(origins, key=origins.get, reverse=True):
                self.columns[-1][state] = y - heights[state] / 2
                y -= heights[state]
        self.left = [0.0] + [
            INPUT_WIDTH + GAP + column * (BLOCK_WIDTH + GAP)
            for column in range(end)
        ]

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
        """Ends of the straight parts of a wire to the left of a column.

        Returns:
            list: Points (x, y): right end of the state, then both ends of
            each lane.
        """
        first = self.depths[state]
        return [
            (x, self.columns[c][state])
            for c in range(first, column)
            for x in (self.left[c], self.left[c + 1] - GAP)
        ][1:]
