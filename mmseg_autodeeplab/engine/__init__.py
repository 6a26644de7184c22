"""What the runner needs for a search."""

from .hooks import ArchSearchHook

__all__ = ['ArchSearchHook']
