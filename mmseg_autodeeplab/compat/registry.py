"""What a type in a config stands for."""

from typing import Any, Optional

from mmengine.registry import Registry
from mmseg import registry as of_mmseg

REGISTRIES = [x for x in vars(of_mmseg).values() if isinstance(x, Registry)]
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
    for registry in REGISTRIES:
        found = resolve(registry, kind)
        if not isinstance(found, type) or _top(found) not in IMPORTED:
            continue
        if resolve(registry, found.__name__) is found:
            return found.__name__
    if isinstance(kind, type):
        return f'{kind.__module__}.{kind.__qualname__}'
    return kind


def _top(cls):
    return cls.__module__.partition('.')[0]
