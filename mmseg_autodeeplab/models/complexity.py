"""How large a model is, and how much it computes."""

import torch
from mmengine.model import revert_sync_batchnorm
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Parameters of a segmentor at inference, and of its auxiliary heads."""
    counts = [0, 0]
    for name, parameter in model.named_parameters():
        counts[name.startswith('auxiliary_head.')] += parameter.numel()
    return tuple(counts)


def count_multiply_adds(model: nn.Module, height: int, width: int) -> int:
    """Multiply-adds of the convolutions, for one image.

    Normalisation, pooling, resizing and the like are not counted. The
    segmentor is moved to the meta device.
    """
    model = revert_sync_batchnorm(model).eval().to('meta')
    image = torch.empty(1, 3, height, width, device='meta')
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(image, mode='tensor')
    flops = counter.get_flop_counts().get('Global', {})
    return flops.get(torch.ops.aten.convolution, 0) // 2
