"""What a type in a config stands for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional
from unittest import mock

import mmengine.registry
from mmengine.registry import Registry

# What is there wherever a config of ours runs.
IMPORTED = ('mmcv', 'mmengine', 'mmseg', 'mmseg_autodeeplab', 'torch')


def resolve(registry: Registry, name: Any) -> Optional[type]:
    """The class that a registry builds for a type; None if it knows none.

    Unlike ``Registry.get``, it takes classes, and raises for no unknown name.
    """
    if not isinstance(name, str):
        return name
    try:
        return registry.get(name)
    except RuntimeError:  # 'Failed to get NAME'
        return None


def is_a(registry: Registry, cfg: Any, *classes: type) -> bool:
    """Whether a config builds an object of one of these classes."""
    found = resolve(registry, cfg.get('type')) if hasattr(cfg, 'get') else None
    return isinstance(found, type) and issubclass(found, classes)


def named(value: Any) -> Any:
    """A config whose types have the names that users write, where they can.

    A class, and the text ``'module.Class'`` or ``'scope.Class'``, are other
    spellings of it; comparisons, and ``mmseg.apis``, know the name alone. That
    of a user's own class needs its module imported, so it becomes text with
    the module, as all classes do that no registry has by their name.
    """
    if isinstance(value, dict):
        return {
            k: _name(v) if k == 'type' and isinstance(v, str) else named(v)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(map(named, value))
    return _name(value) if isinstance(value, type) else value


def _name(kind):
    if isinstance(kind, str) and '.' not in kind:
        return kind
    for registry in registries():
        if registry.scope != 'mmseg':
            continue
        found = resolve(registry, kind)
        top = getattr(found, '__module__', '').partition('.')[0]
        known = {**registry.parent.module_dict, **registry.module_dict}
        names = [name for name, value in known.items() if value is found]
        if names and top in IMPORTED:
            # Some have several names, as norms have.
            return min(names, key=lambda name: name != found.__name__)
    if isinstance(kind, type):
        return f'{kind.__module__}.{kind.__qualname__}'
    return kind


def registries_of(name: str) -> set[str]:
    """Names of the registries that know a type, none if it is unknown.

    Nothing is imported by it, unlike by ``Registry.get``: it is a registered
    name, or that of a registered object in a module that is imported already.
    """
    scope, _, key = name.partition('.')
    module, _, attribute = name.rpartition('.')
    value = getattr(sys.modules.get(module), '__dict__', {}).get(attribute)
    return {
        registry.root.name
        for registry in registries()
        if name in registry.module_dict
        or (scope == registry.scope and key in registry.module_dict)
        or any(value is known for known in registry.module_dict.values())
    }


def registries() -> Iterator[Registry]:
    """Go through all of MMEngine and of what extends it, filled."""
    found = list(vars(mmengine.registry).values())
    for registry in found:  # It grows.
        if isinstance(registry, Registry):
            registry.import_from_location()
            found += registry.children.values()
            yield registry


@contextmanager
def known_types_only() -> Iterator[None]:
    """Have registries give what they know, and import nothing by its name.

    ``Registry.get`` takes any dotted name for that of a Python object, and
    what it finds is called with the arguments of the config.
    """
    get = Registry.get
    with mock.patch.object(
        Registry,
        'get',
        lambda registry, name: (
            get(registry, name)
            if registry.root.name in registries_of(name)
            else None
        ),
    ):
        yield
