"""Networks: they never know the runner."""

from .backbones import AutoDeepLab, AutoDeepLabSupernet
from .decode_heads import AutoDeepLabHead, AutoDeepLabSearchHead, DPCHead
