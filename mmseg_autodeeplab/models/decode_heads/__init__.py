"""Decode heads."""

from .auto_deeplab_head import AutoDeepLabHead, AutoDeepLabSearchHead
