"""How large a model is, and how much it computes."""

import torch
from mmengine.model import revert_sync_batchnorm
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Parameters at inference, and those of training only.

    Args:
        model (nn.Module): A segmentor.

    Returns:
        tuple[int, int]: All parameters but those of auxiliary heads, and
        those of the auxiliary heads.
    """
    auxiliary = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name.startswith('auxiliary_head.')
    )
    return sum(p.numel() for p in model.parameters()) - auxiliary, auxiliary


def count_multiply_adds(model: nn.Module, height: int, width: int) -> int:
    """Multiply-adds of the convolutions, for one image.

    Args:
        model (nn.Module): A segmentor. It is moved to the meta device.
        height (int): Height of the image.
        width (int): Width of the image.

    Returns:
        int: Multiply-adds; normalisation, pooling, resizing and the like
        are not counted.
    """
    model = revert_sync_batchnorm(model).eval().to('meta')
    image = torch.empty(1, 3, height, width, device='meta')
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(image, mode='tensor')
    flops = counter.get_flop_counts().get('Global', {})
    return flops.get(torch.ops.aten.convolution, 0) // 2
