"""The search that a config describes."""

from typing import Optional

from mmengine.config import Config
from mmseg.registry import HOOKS

from ..compat.registry import is_a
from .gradient import ArchSearchHook


def search_hook_config(cfg: Config) -> Optional[dict]:
    """The config of the ``ArchSearchHook`` in a config, if it has one.

    Args:
        cfg (Config): Of any run; its ``custom_hooks`` and ``default_hooks``
            are looked at.

    Returns:
        dict | None: The first one, of this class or one derived from it,
        however its type is spelled.
    """
    hooks = [
        *(cfg.get('custom_hooks') or []),
        *(cfg.get('default_hooks') or {}).values(),
    ]
    return next((h for h in hooks if is_a(HOOKS, h, ArchSearchHook)), None)
