"""What a config says of hooks, by their classes."""

from typing import Any, Optional

from mmengine.config import Config
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from .gradient import ArchSearchHook


def is_hook_type(kind: Any, cls: type[Hook]) -> bool:
    """Whether the type in a hook's config is a class, or one derived from it.

    Args:
        kind (str | type): A name with or without a scope, the whole path of
            a class, or a class.
        cls (type): The class.
    """
    if isinstance(kind, str):
        try:
            kind = HOOKS.get(kind)
        except RuntimeError:  # Its module cannot be imported.
            return False
    return isinstance(kind, type) and issubclass(kind, cls)


def search_hook_config(cfg: Config) -> Optional[dict]:
    """The config of the ``ArchSearchHook`` in a config, if it has one.

    Args:
        cfg (Config): Of any run; its ``custom_hooks`` and ``default_hooks``
            are looked at.
    """
    hooks = [
        *(cfg.get('custom_hooks') or []),
        *(cfg.get('default_hooks') or {}).values(),
    ]
    for hook in hooks:
        if isinstance(hook, dict) and is_hook_type(
            hook.get('type'), ArchSearchHook
        ):
            return hook
    return None
