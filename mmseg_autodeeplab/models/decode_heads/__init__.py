"""Decode heads."""

from .auto_deeplab_head import AutoDeepLabHead, AutoDeepLabSearchHead
from .dpc_head import DPCHead
from .template_head import TemplateHead
