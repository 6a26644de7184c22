"""Depthwise and pointwise convolutions of many edges, frugal of memory."""

import torch
import torch.nn.functional as F
from torch import Tensor


class Separable(torch.autograd.Function):
    """Depthwise convolutions of n edges, then their pointwise ones.

    What is between them is not kept, but computed again where the gradient of
    the pointwise kernels is asked for.

    The input is (N, C, H, W), the same for all edges, or (N, n * C, H, W),
    one behind the other. Kernels have n * C rows, edge by edge. The output is
    (N, n * C, H, W).
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
        grad_x, grad_kernel, _ = torch.ops.aten.convolution_backward(
            grad.reshape(len(x), -1, *size),
            x,
            kernel,
            None,
            [1, 1],
            [kernel.shape[2] // 2] * 2,
            [1, 1],
            False,
            [0, 0],
            x.shape[1],
            [*ctx.needs_input_grad[:2], False],
        )
        if shared and grad_kernel is not None:
            # Back to one edge behind the other.
            grad_kernel = _side_by_side(grad_kernel, x.shape[1])
        grads = (grad_x, grad_kernel, grad_pointwise)
        return *(
            None if grad is None else grad.to(dtype)
            for grad, dtype in zip(grads, ctx.dtypes)
        ), None


def _matrices(pointwise: Tensor) -> Tensor:
    """Kernels (n * C, C, 1, 1) as (n, C, C)."""
    return pointwise.view(-1, *pointwise.shape[1:2] * 2)


def _is_shared(x: Tensor, kernel: Tensor) -> bool:
    """Whether all edges read the same channels."""
    return x.shape[1] < len(kernel)


def _side_by_side(kernel: Tensor, parts: int) -> Tensor:
    """From one part behind the other to their rows in turn."""
    return kernel.unflatten(0, (parts, -1)).transpose(0, 1).flatten(0, 1)


def _depthwise(x: Tensor, kernel: Tensor, fan_out: int) -> Tensor:
    """Give (N, n, C, H, W)."""
    padding = kernel.shape[2] // 2
    if not _is_shared(x, kernel):
        y = F.conv2d(x, kernel, padding=padding, groups=x.shape[1])
        return y.unflatten(1, (fan_out, -1))
    # A channel multiplier, behind which the edges of a channel are in turn.
    kernel = _side_by_side(kernel, fan_out)
    y = F.conv2d(x, kernel, padding=padding, groups=x.shape[1])
    return y.unflatten(1, (-1, fan_out)).transpose(1, 2)
