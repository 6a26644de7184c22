"""What a config loses where it inherits from another."""

import ast
import contextlib
import os.path as osp
from pathlib import Path


def restore_deletes(cfg, file):
    """Keep the ``_delete_`` of ``retrain``, which is for tools/decode.py.

    MMEngine takes the word to be meant for the ``retrain`` of a base that the
    config inherits from, and removes it.

    Args:
        cfg (Config): The config; its ``retrain`` is changed in place.
        file (str): Where it was read from.
    """
    for way in _deletes(file):
        value = cfg.get('retrain')
        for key in way:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, dict):
            value['_delete_'] = True


def _deletes(file):
    """Where ``retrain`` of a config file and its bases says ``_delete_``.

    Returns:
        set[tuple[str]]: The keys that lead to each dict that says so. It is
        found where it is written out, not in a variable.
    """
    inherited, own = set(), set()
    try:
        statements = ast.parse(Path(file).read_text(encoding='utf-8')).body
    except (SyntaxError, OSError):  # Not of Python, or not a local file.
        return inherited
    for node in statements:
        targets = getattr(node, 'targets', [])
        names = [ast.unparse(target) for target in targets]
        if '_base_' in names:
            with contextlib.suppress(ValueError):  # A list that is computed.
                bases = ast.literal_eval(node.value)
                for base in [bases] if isinstance(bases, str) else bases:
                    inherited |= _deletes(osp.join(osp.dirname(file), base))
        elif 'retrain' in names:
            own |= set(_ways(node.value))
    # What a base says of a dict that is replaced here is of no matter.
    return own | {
        way
        for way in inherited
        if not any(way[: len(deleted)] == deleted for deleted in own)
    }


def _ways(node, way=()):
    if isinstance(node, ast.Call):
        items = [(item.arg, item.value) for item in node.keywords]
    elif isinstance(node, ast.Dict):
        items = [
            (getattr(key, 'value', None), value)
            for key, value in zip(node.keys, node.values)
        ]
    else:
        return
    for key, value in items:
        if key == '_delete_':
            yield way
        else:
            yield from _ways(value, (*way, key))
