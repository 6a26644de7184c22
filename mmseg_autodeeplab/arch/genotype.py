"""An architecture as data: frozen, validated, JSON in and out."""

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..errors import UserError
from ..files import write_atomically
from .search_space import NUM_LEVELS, PRIMITIVES, RATES

SCHEMA = 'mmseg_autodeeplab/architecture'
VERSION = 1
_FIELD_NAMES = ('schema', 'version', 'cell', 'path', 'provenance')
_FIELDS = f'an architecture has the fields {", ".join(_FIELD_NAMES)}'
MAX_CHARACTERS = 10**6  # of a file; those of the paper's space have 2000
MAX_DEPTH = 32  # of the provenance: json reads deeper than it writes
# Of bounded depth, length and time.
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80
DECODABLE = PRIMITIVES[1:]  # 'none' is part of the search, never of a result


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


def _refuse(name: str, found: Any, allowed: str) -> None:
    raise UserError(f'{name} is {short(found)}, but must be {allowed}.')


def short(value: Any) -> str:
    """At most 60 characters of a value of any size, on one line."""
    text = _REPR.repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


def _is_nested_within(value: Any, depth: int) -> bool:
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return True
    return depth > 0 and all(_is_nested_within(v, depth - 1) for v in value)


def _without_duplicates(pairs: list) -> dict:
    """An object of JSON, whose later keys would replace earlier ones."""
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in data if names.count(name) > 1)
        raise ValueError(f'the key {short(twice)} stands there twice')
    return data


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Architecture:
    """A cell and a path, as searched or as published.

    Args:
        cell (tuple): One pair of :class:`Connection` per block. Block ``b``
            may read states ``0 .. b + 1`` (see :mod:`.search_space`).
        path (tuple[int]): One downsample rate (4, 8, 16 or 32) per layer.
            The first is 4 or 8; neighbours are equal or a factor of 2 apart.
        provenance (Mapping): Free, JSON-like: where it comes from. Not part
            of equality. Defaults to empty.

    Raises:
        UserError: If a value is not allowed; the sentence names the field,
            what stands there and what may.
    """

    cell: tuple[tuple[Connection, Connection], ...]
    path: tuple[int, ...]
    provenance: Mapping = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'cell', _parse_cell(self.cell))
        object.__setattr__(self, 'path', _parse_path(self.path))
        if not isinstance(self.provenance, Mapping):
            _refuse('provenance', self.provenance, 'an object')
        if not _is_nested_within(self.provenance, MAX_DEPTH):
            _refuse(
                'provenance',
                self.provenance,
                f'nested at most {MAX_DEPTH} deep',
            )

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

    @classmethod
    def from_dict(
        cls, data: Any, where: str = 'architecture'
    ) -> 'Architecture':
        """Build from what :meth:`to_dict` gives.

        Args:
            data (dict): ``schema`` and ``version`` may be absent, as in a
                config; if present they must match.
            where (str): Named at the head of an error.

        Raises:
            UserError: If ``data`` is not an architecture.
        """
        try:
            if not isinstance(data, Mapping):
                _refuse('the top level', data, 'an object')
            for name in ('cell', 'path'):
                if name not in data:
                    raise UserError(f'{name} is missing; {_FIELDS}.')
            for name in data:
                if name not in _FIELD_NAMES:
                    raise UserError(
                        f'the field {short(name)} is unknown; {_FIELDS}.'
                    )
            if data.get('schema', SCHEMA) != SCHEMA:
                _refuse('schema', data['schema'], repr(SCHEMA))
            version = data.get('version', VERSION)
            if not _is_int(version) or version != VERSION:
                _refuse('version', version, f'{VERSION}')
            return cls(data['cell'], data['path'], data.get('provenance', {}))
        except UserError as e:
            raise UserError(f'{where}: {e}') from e

    def to_dict(self) -> dict:
        """The content of ``architecture.json``."""
        return dict(
            schema=SCHEMA,
            version=VERSION,
            cell=[
                [connection._asdict() for connection in block]
                for block in self.cell
            ],
            path=list(self.path),
            provenance=dict(self.provenance),
        )

    @classmethod
    def load(cls, file: str) -> 'Architecture':
        """Read an ``architecture.json``; nothing in it is ever executed.

        Raises:
            UserError: If the file cannot be read or is not an architecture.
        """
        try:
            with open(file, encoding='utf-8') as f:
                text = f.read(MAX_CHARACTERS + 1)
            if len(text) > MAX_CHARACTERS:
                raise UserError(
                    f'{file}: this is too large, since an architecture file '
                    f'has at most {MAX_CHARACTERS} characters; give an '
                    'architecture.json as tools/decode.py writes it.'
                )
            data = json.loads(text, object_pairs_hook=_without_duplicates)
        except OSError as e:
            raise UserError(
                f'{file}: the architecture file cannot be read '
                f'({e.strerror}); give the path of an '
                'architecture.json.'
            ) from e
        except UserError:
            raise
        except (ValueError, RecursionError) as e:
            raise UserError(
                f'{file}: this is not valid JSON ({e}); give an '
                'architecture.json as tools/decode.py writes '
                'it.'
            ) from e
        if isinstance(data, Mapping):
            for name in ('schema', 'version'):
                if name not in data:
                    raise UserError(
                        f'{file}: {name} is missing; an architecture file has '
                        f'"schema": "{SCHEMA}" and "version": {VERSION}.'
                    )
        return cls.from_dict(data, where=str(file))

    def dump(self, file: str) -> None:
        """Write an ``architecture.json``: complete or not at all."""
        write_atomically(file, self._json())

    def _json(self) -> str:
        # One block per line: a cell is read as a table.
        blocks = ',\n    '.join(
            json.dumps([c._asdict() for c in block]) for block in self.cell
        )
        provenance = json.dumps(dict(self.provenance), indent=2).replace(
            '\n', '\n  '
        )
        return (
            '{\n'
            f'  "schema": "{SCHEMA}",\n'
            f'  "version": {VERSION},\n'
            f'  "cell": [\n    {blocks}\n  ],\n'
            f'  "path": {json.dumps(list(self.path))},\n'
            f'  "provenance": {provenance}\n'
            '}\n'
        )

    def with_provenance(self, **provenance: Any) -> 'Architecture':
        """The same architecture, with these entries in its provenance."""
        return replace(self, provenance=dict(self.provenance, **provenance))

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


def _parse_cell(cell: Any) -> tuple:
    if not isinstance(cell, (list, tuple)) or not cell:
        _refuse(
            'cell',
            cell,
            'a list of one pair of connections per '
            'block, with at least one block',
        )
    return tuple(
        _parse_block(block, f'cell[{b}]', b) for b, block in enumerate(cell)
    )


def _parse_block(block: Any, name: str, b: int) -> tuple:
    if not isinstance(block, (list, tuple)) or len(block) != 2:
        _refuse(name, block, 'a pair of connections')
    connections = []
    for i, connection in enumerate(block):
        at = f'{name}[{i}]'
        if isinstance(connection, Connection):
            connection = connection._asdict()
        if not isinstance(connection, Mapping) or set(connection) != {
            'input',
            'op',
        }:
            _refuse(at, connection, 'an object with exactly "input" and "op"')
        state, op = connection['input'], connection['op']
        if not _is_int(state) or not 0 <= state <= b + 1:
            _refuse(f'{at}.input', state, f'a state from 0 to {b + 1}')
        if not isinstance(op, str) or op not in DECODABLE:
            _refuse(f'{at}.op', op, f'one of {", ".join(DECODABLE)}')
        connections.append(Connection(state, op))
    return tuple(connections)


def _parse_path(path: Any) -> tuple:
    if not isinstance(path, (list, tuple)) or not path:
        _refuse('path', path, 'a list of one downsample rate per layer')
    previous = 0
    for i, rate in enumerate(path):
        if not _is_int(rate) or rate not in RATES:
            _refuse(f'path[{i}]', rate, f'one of {", ".join(map(str, RATES))}')
        level = RATES.index(rate)
        if abs(level - previous) > 1:
            reachable = RATES[
                max(previous - 1, 0) : min(previous + 2, NUM_LEVELS)
            ]
            _refuse(
                f'path[{i}]',
                rate,
                f'{" or ".join(map(str, reachable))} after '
                f'{path[i - 1] if i else "the stem at 4"}',
            )
        previous = level
    return tuple(path)
