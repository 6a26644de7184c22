"""Backbones."""

from .auto_deeplab import AutoDeepLab
from .auto_deeplab_supernet import AutoDeepLabSupernet
