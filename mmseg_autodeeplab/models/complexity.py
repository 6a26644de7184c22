"""How large a model is, and how much it computes."""

from collections.abc import Mapping

import torch
from mmengine.model import revert_sync_batchnorm
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def image_channels(model: Mapping) -> int:
    """Channels of the images that the segmentor of a config takes.

    They are ``in_channels`` of its backbone, or of what that wraps as
    ``backbone`` or ``backbone_cfg``; 3, the default of all, where none says
    so.
    """
    while model := model.get('backbone') or model.get('backbone_cfg'):
        if 'in_channels' in model:
            return model['in_channels']
    return 3


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Parameters of a segmentor at inference, and of its auxiliary heads."""
    counts = [0, 0]
    for name, parameter in model.named_parameters():
        counts[name.startswith('auxiliary_head.')] += parameter.numel()
    return tuple(counts)


def count_multiply_adds(
    model: nn.Module, channels: int, height: int, width: int
) -> int:
    """Multiply-adds of the convolutions, for one image of that shape.

    Normalisation, pooling, resizing and the like are not counted. The
    segmentor is moved to the meta device.
    """
    model = revert_sync_batchnorm(model).eval().to('meta')
    image = torch.empty(1, channels, height, width, device='meta')
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(image, mode='tensor')
    flops = counter.get_flop_counts().get('Global', {})
    return flops.get(torch.ops.aten.convolution, 0) // 2
