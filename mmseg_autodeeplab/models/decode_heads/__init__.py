"""Decode heads."""

from .auto_deeplab_head import AutoDeepLabHead, AutoDeepLabSearchHead

__all__ = ['AutoDeepLabHead', 'AutoDeepLabSearchHead']
