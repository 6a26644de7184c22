"""Functions of the fused form that PyTorch lacks."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_gather


class Separable(torch.autograd.Function):
    """Depthwise convolutions of n edges, then their pointwise ones.

    What is between them is not kept, but computed again for the gradient of
    the pointwise kernels. The input is (N, C, H, W), the same for all edges,
    or (N, n * C, H, W), one behind the other. Kernels have n * C rows, edge by
    edge. The output is (N, n * C, H, W).
    """

    @staticmethod
    def forward(ctx, x, depthwise, pointwise, fan_out):
        tensors = (x, depthwise, pointwise)
        between = _depthwise(x, depthwise, fan_out)
        out = torch.matmul(_matrices(pointwise), between.flatten(3))
        ctx.fan_out = fan_out
        ctx.dtypes = [tensor.dtype for tensor in tensors]
        # Autocast reaches forward alone.
        ctx.save_for_backward(*(tensor.to(out.dtype) for tensor in tensors))
        return out.view(len(x), -1, *x.shape[2:])

    @staticmethod
    def backward(ctx, grad):
        x, depthwise, pointwise = ctx.saved_tensors
        fan_out, size = ctx.fan_out, x.shape[2:]
        matrices = _matrices(pointwise)
        grad = grad.reshape(len(x), fan_out, -1, size.numel())
        grad_pointwise = None
        if ctx.needs_input_grad[2]:
            between = _depthwise(x, depthwise, fan_out).flatten(3)
            grad_pointwise = torch.matmul(grad, between.mT).sum(0)
            grad_pointwise = grad_pointwise.view_as(pointwise)
        grad = torch.matmul(matrices.mT, grad)
        kernel, shared = depthwise, _is_shared(x, depthwise)
        if shared:
            grad = grad.transpose(1, 2)
            kernel = _side_by_side(kernel, fan_out)
        tensors = grad.reshape(len(x), -1, *size), x, kernel
        # Stride, padding, dilation, whether it is transposed, output padding.
        options = [1, 1], [kernel.shape[2] // 2] * 2, [1, 1], False, [0, 0]
        needed = [*ctx.needs_input_grad[:2], False]
        grad_x, grad_kernel, _ = torch.ops.aten.convolution_backward(
            *tensors, None, *options, x.shape[1], needed
        )
        if shared and grad_kernel is not None:
            # Back to one edge behind the other.
            grad_kernel = _side_by_side(grad_kernel, x.shape[1])
        grads = (grad_x, grad_kernel, grad_pointwise)
        return *(
            None if grad is None else grad.to(dtype)
            for grad, dtype in zip(grads, ctx.dtypes)
        ), None


def _matrices(pointwise):
    """Kernels (n * C, C, 1, 1) as (n, C, C)."""
    return pointwise.view(-1, *pointwise.shape[1:2] * 2)


def _is_shared(x, kernel):
    """Whether all edges read the same channels."""
    return x.shape[1] < len(kernel)


def _side_by_side(kernel, parts):
    """From one part behind the other to their rows in turn."""
    return kernel.unflatten(0, (parts, -1)).transpose(0, 1).flatten(0, 1)


def _depthwise(x, kernel, fan_out):
    """Give (N, n, C, H, W)."""
    shared = _is_shared(x, kernel)
    if shared:
        kernel = _side_by_side(kernel, fan_out)
    y = F.conv2d(x, kernel, padding=kernel.shape[2] // 2, groups=x.shape[1])
    if shared:
        # A channel multiplier, behind which a channel's edges are in turn.
        return y.unflatten(1, (-1, fan_out)).transpose(1, 2)
    return y.unflatten(1, (fan_out, -1))


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
    weights that have a gradient of their own. ``x`` is the batch of this
    process, (N, C, H, W); the others are (C, ).
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
