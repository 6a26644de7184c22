"""Auto-DeepLab: a cell and a path, and the space of both."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .architecture import Architecture, refuse, refuse_counts
from .primitives import PRIMITIVES, decodable
from .space import Choose, Space
from .trellis import RATES, count_paths, reachable


class Connection(NamedTuple):
    """One input of a block: the state that is read and the primitive on it."""

    input: int
    op: str


class Stage(NamedTuple):
    """Consecutive cells at one scale; of the stem alone, the last is -1."""

    level: int
    last_layer: int


@dataclass(frozen=True)
class AutoDeepLabArchitecture(Architecture):
    """A cell and a path; a UserError where a value is not allowed."""

    schema: ClassVar[str] = 'mmseg_autodeeplab/architecture'

    #: One pair per block; block ``b`` may read states ``0 .. b + 1``.
    cell: tuple[tuple[Connection, Connection], ...]
    #: One downsample rate (4, 8, 16 or 32) per layer. The first is 4 or 8;
    #: neighbours are equal or a factor of 2 apart.
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
        return tuple(map(RATES.index, self.path))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Runs of equal scale along the path, the stem included.

        Stage 0, at stride 4, ends in the low-level feature: in the stem
        where the path leaves stride 4 at once. The last stage ends in the
        final feature.
        """
        levels = (0, *self.levels)
        return tuple(
            Stage(level, layer - 1)
            for layer, (level, after) in enumerate(
                zip(levels, (*levels[1:], None))
            )
            if level != after
        )

    def content(self) -> dict:
        """Cell and path, as in a config."""
        cell = [[c._asdict() for c in block] for block in self.cell]
        return dict(cell=cell, path=list(self.path))

    def describe(self) -> str:
        """The path and the cell in two short lines, for logs."""
        names = {0: 'H[l-1]', 1: 'H[l-2]'}
        pairs = (
            ' + '.join(
                f'{op}({names.get(state, state)})' for state, op in pair
            )
            for pair in self.cell
        )
        blocks = '; '.join(f'{b}: {pair}' for b, pair in enumerate(pairs, 2))
        return f'path {"-".join(map(str, self.path))}\ncell {blocks}'

    def signs_of_collapse(
        self, cell: bool = True, path: bool = True
    ) -> list[str]:
        """Say in what it is degenerate, as a search by gradient may end.

        Skip connections train fastest while the weights are poor. What has
        not been chosen yet, ``cell`` or ``path``, is no sign.
        """
        kinds = [PRIMITIVES[c.op].kind for block in self.cell for c in block]
        skips = kinds.count('skip')
        signs = []
        if cell and 2 * skips > len(kinds):
            signs.append(
                f'{skips} of {len(kinds)} connections are skip_connect'
            )
        if path and len(set(self.path)) == 1:
            signs.append(f'all layers are at stride {self.path[0]}')
        return signs

    def space(self) -> 'AutoDeepLabSpace':
        """All architectures of as many layers and blocks."""
        return AutoDeepLabSpace(self.num_layers, self.num_blocks)


@dataclass(frozen=True)
class AutoDeepLabSpace(Space):
    """All cells of B blocks along all paths of L layers, both 1 or more."""

    num_layers: int = 12
    num_blocks: int = 5

    architecture: ClassVar[type] = AutoDeepLabArchitecture

    def __post_init__(self) -> None:
        refuse_counts(vars(self))

    def random(self, seed: int) -> AutoDeepLabArchitecture:
        """Draw from what :func:`decode` can give, each as likely as another.

        Every block reads two distinct states, each through any primitive but
        ``none``; the path is one of all :meth:`count_paths`. It is the
        baseline that a search has to beat.
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
            targets = reachable(level)
            ways = np.array([count_paths(left, start=t) for t in targets])
            level = int(rng.choice(targets, p=ways / ways.sum()))
            path.append(RATES[level])
        return AutoDeepLabArchitecture(cell, path, dict(random_seed=seed))

    def draw(self, choose: Choose) -> AutoDeepLabArchitecture:
        """Choose two states and their primitives per block, then the path.

        The first state is the earlier one, since the order is no choice. The
        weights of a step of the path make all paths equally likely.
        """
        ops, cell = decodable(), []
        for b in range(self.num_blocks):
            states = choose(
                f'inputs_{b}', list(itertools.combinations(range(b + 2), 2))
            )
            cell.append(
                [
                    Connection(state, choose(f'op_{b}_{i}', ops))
                    for i, state in enumerate(states)
                ]
            )
        path, level = [], 0
        for layer in range(self.num_layers):
            targets = list(reachable(level))
            left = self.num_layers - layer - 1
            ways = [count_paths(left, start=target) for target in targets]
            level = choose(f'level_{layer}', targets, ways)
            path.append(RATES[level])
        return AutoDeepLabArchitecture(cell, path)

    def choices(self, architecture: AutoDeepLabArchitecture) -> dict[str, Any]:
        """What :meth:`draw` has to choose for an architecture."""
        found = {}
        for b, block in enumerate(architecture.cell):
            pair = sorted(block)
            found[f'inputs_{b}'] = tuple(c.input for c in pair)
            found.update((f'op_{b}_{i}', c.op) for i, c in enumerate(pair))
        levels = enumerate(architecture.levels)
        return found | {f'level_{layer}': level for layer, level in levels}

    def count(self) -> int:
        """Number of networks that can be drawn; the paper counts others."""
        cells = math.prod(
            math.comb(block + 2, 2) * len(decodable()) ** 2
            for block in range(self.num_blocks)
        )
        return cells * self.count_paths()

    def count_cells(self) -> int:
        """Number of cells as the paper counts them (5.57e14 for 5 blocks).

        Ordered pairs, in which a state may be read twice, and by ``none``.
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
    ops = decodable()
    parsed = []
    for b, block in enumerate(cell):
        name = f'cell[{b}]'
        if not isinstance(block, (list, tuple)) or len(block) != 2:
            refuse(name, block, 'a pair of connections')
        parsed.append(
            tuple(
                _parse_connection(found, f'{name}[{i}]', b + 1, ops)
                for i, found in enumerate(block)
            )
        )
    return tuple(parsed)


def _parse_connection(found: Any, name: str, last: int, ops: list):
    if isinstance(found, Connection):
        found = found._asdict()
    if not isinstance(found, Mapping) or set(found) != {'input', 'op'}:
        refuse(name, found, 'an object with exactly "input" and "op"')
    state, op = found['input'], found['op']
    if type(state) is not int or not 0 <= state <= last:
        refuse(f'{name}.input', state, f'a state from 0 to {last}')
    if op not in ops:
        refuse(f'{name}.op', op, f'one of {", ".join(ops)}')
    return Connection(state, op)


def _parse_path(path: Any) -> tuple:
    if not isinstance(path, (list, tuple)) or not path:
        refuse('path', path, 'a list of one downsample rate per layer')
    allowed, after = RATES[:2], 'the stem at 4'
    for i, rate in enumerate(path):
        if type(rate) is not int or rate not in RATES:
            refuse(f'path[{i}]', rate, f'one of {", ".join(map(str, RATES))}')
        if rate not in allowed:
            rates = ' or '.join(map(str, allowed))
            refuse(f'path[{i}]', rate, f'{rates} after {after}')
        allowed = [RATES[level] for level in reachable(RATES.index(rate))]
        after = rate
    return tuple(path)
