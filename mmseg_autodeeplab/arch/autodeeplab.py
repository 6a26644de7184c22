"""Auto-DeepLab: a cell and a path, and the space of both."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .architecture import Architecture, refuse
from .primitives import PRIMITIVES, decodable
from .trellis import NUM_LEVELS, RATES, count_paths


class Connection(NamedTuple):
    """One input of a block: the state that is read and the primitive on it."""

    input: int
    op: str


class Stage(NamedTuple):
    """A maximal run of consecutive cells at one scale.

    ``last_layer`` is -1 where the run is the stem alone.
    """

    level: int
    last_layer: int


@dataclass(frozen=True)
class AutoDeepLabArchitecture(Architecture):
    """A cell and a path, as searched or as published.

    Args:
        cell (tuple): One pair of :class:`Connection` per block. Block ``b``
            may read states ``0 .. b + 1`` (see :mod:`.trellis`).
        path (tuple[int]): One downsample rate (4, 8, 16 or 32) per layer.
            The first is 4 or 8; neighbours are equal or a factor of 2 apart.
        provenance (Mapping): Free, JSON-like: where it comes from. Not part
            of equality. Defaults to empty.

    Raises:
        UserError: If a value is not allowed; the sentence names the field,
            what stands there and what may.
    """

    schema: ClassVar[str] = 'mmseg_autodeeplab/architecture'

    cell: tuple[tuple[Connection, Connection], ...]
    path: tuple[int, ...]
    provenance: Mapping = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'cell', _parse_cell(self.cell))
        object.__setattr__(self, 'path', _parse_path(self.path))
        super().__post_init__()

    @property
    def num_blocks(self) -> int:
        """Blocks per cell, B."""
        return len(self.cell)

    @property
    def num_layers(self) -> int:
        """Cells along the path, L."""
        return len(self.path)

    @property
    def levels(self) -> tuple[int, ...]:
        """The path as levels 0 .. 3."""
        return tuple(RATES.index(rate) for rate in self.path)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Runs of equal scale along the path, the stem included.

        Stage 0 is at stride 4 and ends in the low-level feature: the last
        cell of the path's opening run at stride 4, or the stem (layer -1)
        where the path leaves stride 4 at once. The last stage ends in the
        final feature.
        """
        levels = (0,) + self.levels
        ends = [
            i
            for i, level in enumerate(levels)
            if i + 1 == len(levels) or levels[i + 1] != level
        ]
        return tuple(Stage(levels[i], i - 1) for i in ends)

    def content(self) -> dict:
        """Cell and path, as in a config."""
        cell = [[c._asdict() for c in block] for block in self.cell]
        return dict(cell=cell, path=list(self.path))

    def describe(self) -> str:
        """The path and the cell in two short lines, for logs."""
        names = {0: 'H[l-1]', 1: 'H[l-2]'}
        blocks = (
            f'{2 + b}: '
            + ' + '.join(
                f'{c.op}({names.get(c.input, c.input)})' for c in block
            )
            for b, block in enumerate(self.cell)
        )
        return (
            f'path {"-".join(map(str, self.path))}\ncell {"; ".join(blocks)}'
        )

    def signs_of_collapse(self) -> list[str]:
        """Say in what it is degenerate.

        Gradient-based search may end in cells of skip connections, which
        train fastest while the weights are poor, and in one scale for all
        layers.

        Returns:
            list[str]: One clause where more than half of the connections are
            skip connections, one where all layers have the same scale.
        """
        kinds = [PRIMITIVES[c.op].kind for block in self.cell for c in block]
        skips = kinds.count('skip')
        signs = []
        if 2 * skips > len(kinds):
            signs.append(
                f'{skips} of {len(kinds)} connections are skip_connect'
            )
        if len(set(self.path)) == 1:
            signs.append(f'all layers are at stride {self.path[0]}')
        return signs

    def space(self) -> 'AutoDeepLabSpace':
        """All architectures of as many layers and blocks."""
        return AutoDeepLabSpace(self.num_layers, self.num_blocks)


@dataclass(frozen=True)
class AutoDeepLabSpace:
    """All cells of B blocks along all paths of L layers.

    Args:
        num_layers (int): L, at least 1. Defaults to 12.
        num_blocks (int): B, at least 1. Defaults to 5.

    Raises:
        UserError: If one of them is not an integer of 1 or more.
    """

    num_layers: int = 12
    num_blocks: int = 5

    def __post_init__(self) -> None:
        for name in ('num_layers', 'num_blocks'):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                refuse(name, value, 'an integer of 1 or more')

    def random(self, seed: int) -> AutoDeepLabArchitecture:
        """Draw from what :func:`decode` can give, each as likely as another.

        Every block reads two distinct states, each through any primitive but
        ``none``; the path is one of all :meth:`count_paths`. It is the
        baseline that a search has to beat.

        Args:
            seed (int): The same seed gives the same architecture.
        """
        # RandomState's stream is frozen across numpy versions.
        rng = np.random.RandomState(seed)
        ops = decodable()
        cell = [
            [
                Connection(int(state), ops[rng.randint(len(ops))])
                for state in rng.permutation(block + 2)[:2]
            ]
            for block in range(self.num_blocks)
        ]
        path, level = [], 0
        for left in reversed(range(self.num_layers)):
            targets = range(max(level - 1, 0), min(level + 2, NUM_LEVELS))
            ways = np.array([count_paths(left, start=t) for t in targets])
            level = int(rng.choice(targets, p=ways / ways.sum()))
            path.append(RATES[level])
        return AutoDeepLabArchitecture(cell, path, dict(random_seed=seed))

    def count_cells(self) -> int:
        """Number of cells as the paper counts them (5.57e14 for 5 blocks).

        Ordered pairs, both branches free to read the same state, ``none``
        included.
        """
        return math.prod(
            (len(PRIMITIVES) * (block + 2)) ** 2
            for block in range(self.num_blocks)
        )

    def count_paths(self) -> int:
        """Number of paths through the trellis: 75 025 for 12 layers."""
        return count_paths(self.num_layers)


def _parse_cell(cell: Any) -> tuple:
    if not isinstance(cell, (list, tuple)) or not cell:
        allowed = 'a list of one pair of connections per block, not empty'
        refuse('cell', cell, allowed)
    return tuple(
        _parse_block(block, f'cell[{b}]', b) for b, block in enumerate(cell)
    )


def _parse_block(block: Any, name: str, b: int) -> tuple:
    if not isinstance(block, (list, tuple)) or len(block) != 2:
        refuse(name, block, 'a pair of connections')
    connections, ops = [], decodable()
    for i, connection in enumerate(block):
        at = f'{name}[{i}]'
        if isinstance(connection, Connection):
            connection = connection._asdict()
        if not isinstance(connection, Mapping) or set(connection) != {
            'input',
            'op',
        }:
            refuse(at, connection, 'an object with exactly "input" and "op"')
        state, op = connection['input'], connection['op']
        if not _is_int(state) or not 0 <= state <= b + 1:
            refuse(f'{at}.input', state, f'a state from 0 to {b + 1}')
        if op not in ops:
            refuse(f'{at}.op', op, f'one of {", ".join(ops)}')
        connections.append(Connection(state, op))
    return tuple(connections)


def _parse_path(path: Any) -> tuple:
    if not isinstance(path, (list, tuple)) or not path:
        refuse('path', path, 'a list of one downsample rate per layer')
    previous = 0
    for i, rate in enumerate(path):
        if not _is_int(rate) or rate not in RATES:
            refuse(f'path[{i}]', rate, f'one of {", ".join(map(str, RATES))}')
        level = RATES.index(rate)
        if abs(level - previous) > 1:
            reachable = RATES[max(previous - 1, 0) : previous + 2]
            after = path[i - 1] if i else 'the stem at 4'
            allowed = f'{" or ".join(map(str, reachable))} after {after}'
            refuse(f'path[{i}]', rate, allowed)
        previous = level
    return tuple(path)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
