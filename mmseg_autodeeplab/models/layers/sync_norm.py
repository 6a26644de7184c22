"""Batch norm over the batches of all processes."""

from typing import Optional

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def sync_batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Optional[Tensor],
    bias: Optional[Tensor],
    eps: float,
) -> Tensor:
    """``F.batch_norm`` in training with momentum 1, on all batches together.

    PyTorch's ``SyncBatchNorm`` in plain operations: on any device, and for
    weights that have a gradient of their own.

    Args:
        x (Tensor): The batch of this process, (N, C, H, W).
        running_mean (Tensor): Is set to the mean, (C, ).
        running_var (Tensor): Is set to the unbiased variance, (C, ).
        weight (Tensor, optional): (C, ).
        bias (Tensor, optional): (C, ).
        eps (float): Added to the variance.

    Returns:
        Tensor: (N, C, H, W).
    """
    precise = x.to(running_mean.dtype)  # Half is not enough for sums.
    var, mean = torch.var_mean(precise, (0, 2, 3), correction=0)
    count = torch.full_like(mean, x.numel() / len(mean))
    # As (processes, C) each, and combined without a difference of squares.
    counts, means, variances = torch.stack(
        all_gather(torch.stack((count, mean, var)))
    ).unbind(1)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    var = (counts * (variances + (means - mean).square())).sum(0) / total
    with torch.no_grad():
        running_mean.copy_(mean)
        running_var.copy_(var * total / (total - 1))
    scale = (var + eps).rsqrt()
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias
    scale, shift = (t[:, None, None] for t in (scale, shift))
    return torch.addcmul(shift, precise, scale).to(x.dtype)
