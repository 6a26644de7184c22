"""Configs that come with data: read as literals, never run.

The text of a config stands in a checkpoint and in a work directory. MMEngine
writes it as assignments of literals, and reads it by running it.
"""

import ast
import math
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from ..arch.architecture import short
from ..compat.registry import registries, registries_of
from ..errors import UserError, one_line
from ..files import open_text

# That of a search has 10,000 characters, and is nested 10 deep.
MAX_CHARACTERS, MAX_DEPTH = 300_000, 32
# As MMEngine writes them, but cannot read them.
NUMBERS = dict(inf=math.inf, nan=math.nan)
# What a config may import by custom_imports.
PACKAGE = __name__.partition('.')[0]
SEQUENCES = {ast.List: list, ast.Tuple: tuple, ast.Set: set}


def read_config(text: str, name: str) -> Config:
    """Read the text of a config, as ``Config.pretty_text`` writes it.

    Nothing is run, imported or substituted, and no other file is read.

    Raises:
        UserError: It is more than literals; ``name`` says whose text it is.
    """
    try:
        return Config(_Reader(text, NUMBERS).assignments())
    except Exception as error:  # Of the parser, of names that are reserved.
        raise UserError(
            f'{name} is read as data and never run, but {_reason(error)}'
        ) from error


def read_config_file(file: str) -> Config:
    """Read the file of a config by :func:`read_config`; may raise OSError."""
    with open_text(file, errors='replace') as f:
        return read_config(f.read(MAX_CHARACTERS + 1), file)


def look_up(cfg: Any, path: str) -> Any:
    """What stands at a dotted name of a config of any form, or None."""
    for key in path.split('.'):
        cfg = cfg.get(key) if hasattr(cfg, 'get') else None
    return cfg


def check_names(cfg: Config, name: str) -> None:
    """Raise a :class:`UserError` where a config would import by a name.

    Types and scopes must be registered, and of ``custom_imports`` this package
    is the only one.
    """
    scopes = [registry.scope for registry in registries()]
    for key, value in _items(cfg.to_dict()):
        if not _is_known(key, value, scopes):
            raise UserError(
                f'{name} has {key}={short(value)}, which is not known here, '
                'and nothing is imported for a config that comes with data'
            )


def write_config(cfg: Config, comment: str) -> str:
    """Make the text of a config, below a comment, for ``Config.fromfile``.

    Raises:
        UserError: MMEngine would not read the same: keys and values can be
            more than its writer foresees, by mistake or by intent.
    """
    try:
        text = f'{comment}\n{cfg.pretty_text}'
        found, expected = _Reader(text, {}).assignments(), cfg.to_dict()
        wrong = {'_base_', '_deprecation_'} & expected.keys()
        wrong |= {
            key
            for key in found.keys() | expected.keys()
            if key not in found or found[key] != expected.get(key, ...)
        }
        if wrong:
            raise UserError(f'{short(min(wrong))} would be read otherwise')
        if '{{' in text:
            raise UserError('MMEngine would replace what stands after {{')
    except Exception as error:  # Of MMEngine's formatter, too.
        raise UserError(
            f'the config cannot be written as text, since {_reason(error)}: '
            'mend the config of the search'
        ) from error
    return text


def _reason(error):
    return str(error) if isinstance(error, UserError) else one_line(error)


class _Reader:
    """Reads assignments of literals, with some numbers by their names."""

    def __init__(self, text: str, numbers: dict) -> None:
        if len(text) > MAX_CHARACTERS:
            raise UserError(f'it has more than {MAX_CHARACTERS} characters')
        self.text, self.numbers = text, numbers

    def assignments(self) -> dict:
        values = {}
        for node in ast.parse(self.text, 'config').body:
            if not isinstance(node, ast.Assign) or len(node.targets) > 1:
                self.refuse(node)
            if not isinstance(node.targets[0], ast.Name):
                self.refuse(node)
            values[node.targets[0].id] = self.value(node.value)
        return values

    def value(self, node: ast.expr, depth: int = MAX_DEPTH) -> Any:
        def inner(node):
            return self.value(node, depth - 1)

        kind = type(node)
        if not depth:
            raise UserError(f'line {node.lineno} is nested too deeply')
        if kind is ast.Constant and node.value is not ...:
            str(node.value).encode()  # Raises for half a character.
            return node.value
        if kind is ast.Name and node.id in self.numbers:
            return self.numbers[node.id]
        if kind is ast.UnaryOp and isinstance(node.op, ast.USub):
            value = inner(node.operand)
            if type(value) in (int, float):
                return -value
        if kind in SEQUENCES:
            return SEQUENCES[kind](map(inner, node.elts))
        if kind is ast.Dict:
            return dict(zip(map(inner, node.keys), map(inner, node.values)))
        if kind is ast.Call and getattr(node.func, 'id', None) == 'dict':
            # As dict(a=1), dict({'b-c': 2}) or dict(**{'b-c': 2}).
            parts = [ast.keyword(None, arg) for arg in node.args]
            values = {}
            for part in parts + node.keywords:
                found = inner(part.value)
                values.update({part.arg: found} if part.arg else found)
            return values
        return self.refuse(node)

    def refuse(self, node: ast.AST) -> None:
        source = short(ast.get_source_segment(self.text, node))
        raise UserError(f'line {node.lineno} has {source}, no literal')


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values at any depth, but for those that nothing builds."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key), inner
            if key != 'clip_grad':
                yield from _items(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _items(inner)


def _is_known(key, value, scopes):
    if key == 'type':
        return isinstance(value, str) and bool(registries_of(value))
    if key in ('_scope_', 'default_scope'):
        return value is None or value in scopes
    if key == 'custom_imports':
        names = value.get('imports') if isinstance(value, dict) else value
        names = names if isinstance(names, list) else [names or PACKAGE]
        return all(str(n).split('.')[0] == PACKAGE for n in names)
    if key == 'class_weight' and isinstance(value, str):
        # MMSegmentation loads pickles and all of YAML as well.
        return value.endswith(('.npy', '.json'))
    # MMEngine and MMCV make types of these.
    if key in ('constructor', 'padding_mode') or key.endswith('_type'):
        return '.' not in str(value) or bool(registries_of(str(value)))
    return True
