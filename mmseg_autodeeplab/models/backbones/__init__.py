"""Backbones."""

from .auto_deeplab import AutoDeepLab
from .auto_deeplab_supernet import AutoDeepLabSupernet
from .truncated_mobilenet_v2 import TruncatedMobileNetV2
