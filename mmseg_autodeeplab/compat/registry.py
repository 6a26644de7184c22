"""What a type in a config stands for."""

from typing import Any, Optional

from mmengine.registry import Registry


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
