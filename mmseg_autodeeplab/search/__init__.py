"""Who moves the architecture, and what a search leaves behind."""

from . import gradient

__all__ = ['gradient']
