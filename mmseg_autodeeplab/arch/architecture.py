"""An architecture as data: frozen, validated, JSON in and out."""

import json
import reprlib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar, Optional, TypeVar

from ..errors import UserError
from ..files import open_text, to_json, write_atomically

MAX_CHARACTERS = 10**6  # of a file; those of the paper's space have 2000
MAX_DEPTH = 32  # of the provenance: json reads deeper than it writes

Kind = TypeVar('Kind', bound='Architecture')


class Architecture:
    """The base of all kinds of architectures.

    A kind is a frozen dataclass. Its fields are those of its file, in this
    order; the last one is ``provenance``: free, JSON-like, where the
    architecture comes from, and no part of equality. ``__post_init__``
    refuses values that are not allowed and ends in the base's. A kind has
    ``content()``, its own fields as plain lists and dicts, as in a config;
    ``describe()``, a few short lines for logs; and ``space()``, the space
    that it is from.
    """

    schema: ClassVar[Optional[str]] = None  # names the kind in a file
    version: ClassVar[int] = 1  # of the schema
    kinds: ClassVar[dict[str, type['Architecture']]] = {}  # by schema

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Architecture.kinds[cls.schema] = cls

    def __post_init__(self) -> None:
        if not isinstance(self.provenance, Mapping):
            refuse('provenance', self.provenance, 'an object')
        if not _is_nested_within(self.provenance, MAX_DEPTH):
            allowed = f'nested at most {MAX_DEPTH} deep'
            refuse('provenance', self.provenance, allowed)

    @classmethod
    def from_dict(
        cls: type[Kind], data: Any, where: str = 'architecture'
    ) -> Kind:
        """Build from what :meth:`to_dict` gives.

        Args:
            data (dict): Without a schema, as in a config, it is of the class
                that this is called on; on the base, its first field tells.
            where (str): Named at the head of an error.

        Raises:
            UserError: ``data`` is not an architecture of this kind.
        """
        if isinstance(data, Mapping):
            kinds = cls.kinds.items()
            found = (s for s, k in kinds if fields(k)[0].name in data)
            schema = cls.schema or next(found, None)
            data = {'schema': schema, 'version': cls.version, **data}
        try:
            return cls._parse(data)
        except UserError as e:
            raise UserError(f'{where}: {e}') from e

    @classmethod
    def _parse(cls: type[Kind], data: Any) -> Kind:
        if not isinstance(data, Mapping):
            refuse('the top level', data, 'an object')
        kinds = {s: k for s, k in cls.kinds.items() if issubclass(k, cls)}
        schemas = ' or '.join(map(repr, kinds))
        if 'schema' not in data:
            raise UserError(f'schema is missing; it must be {schemas}.')
        if data['schema'] not in list(kinds):  # a list is not hashable
            refuse('schema', data['schema'], schemas)
        kind = kinds[data['schema']]
        own = [f.name for f in fields(kind)]
        names = ['schema', 'version', *own]
        listed = f'an architecture has the fields {", ".join(names)}'
        if missing := [name for name in names[:-1] if name not in data]:
            raise UserError(f'{missing[0]} is missing; {listed}.')
        if unknown := [short(name) for name in data if name not in names]:
            raise UserError(f'the field {unknown[0]} is unknown; {listed}.')
        if data['version'] != kind.version:
            refuse('version', data['version'], f'{kind.version}')
        return kind(**{name: data[name] for name in own if name in data})

    def to_dict(self) -> dict:
        """The content of its file, of plain lists and dicts."""
        return dict(
            schema=self.schema,
            version=self.version,
            **self.content(),
            provenance=dict(self.provenance),
        )

    @classmethod
    def load(cls: type[Kind], file: str) -> Kind:
        """Read an ``architecture.json``; nothing in it is ever executed.

        Raises:
            UserError: It is not an architecture of this kind, or of any.
        """
        try:
            with open_text(file) as f:
                text = f.read(MAX_CHARACTERS + 1)
            if len(text) > MAX_CHARACTERS:
                raise ValueError(
                    f'it is too large, over {MAX_CHARACTERS} characters'
                )
            return cls._parse(json.loads(text))
        except UserError as e:
            raise UserError(f'{file}: {e}') from e
        except OSError as e:
            raise UserError(
                f'{file}: the architecture file cannot be read '
                f'({e.strerror}); give the path of an architecture.json.'
            ) from e
        except (ValueError, RecursionError) as e:
            raise UserError(
                f'{file}: this is not valid JSON ({e}); give an '
                'architecture.json as tools/decode.py writes it.'
            ) from e

    def dump(self, file: str) -> None:
        """Write an ``architecture.json``: complete or not at all."""
        lines = [
            f'  {to_json(name)}: {_as_text(name, value)}'
            for name, value in self.to_dict().items()
        ]
        write_atomically(file, '{\n' + ',\n'.join(lines) + '\n}\n')

    def with_provenance(self: Kind, **provenance: Any) -> Kind:
        """The same architecture, with these entries in its provenance."""
        return replace(self, provenance=dict(self.provenance, **provenance))


def refuse(name: str, found: Any, allowed: str) -> None:
    """Raise a :class:`UserError`: what stands in a field and what may."""
    raise UserError(f'{name} is {short(found)}, but must be {allowed}.')


def short(value: Any) -> str:
    """At most 60 characters of a value of any size, on one line."""
    text = reprlib.repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


def _is_nested_within(value: Any, depth: int) -> bool:
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return True
    return depth > 0 and all(_is_nested_within(v, depth - 1) for v in value)


def _as_text(name: str, value: Any) -> str:
    if name == 'provenance':
        return to_json(value, indent=2).replace('\n', '\n  ')
    if isinstance(value, list) and isinstance(value[0], (list, dict)):
        # One part per line: it is read as a table.
        rows = ',\n    '.join(map(to_json, value))
        return f'[\n    {rows}\n  ]'
    return to_json(value)
