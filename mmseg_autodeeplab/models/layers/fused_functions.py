"""Functions of the fused form that PyTorch lacks."""

from functools import partial
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from .graphs import aside, is_branching


def is_on_gpu(tensor: Tensor) -> bool:
    """Whether to compute in the way that is faster on a GPU."""
    return tensor.is_cuda


class Convolution(torch.autograd.Function):
    """``F.conv2d`` that keeps the size, for gradients that need not wait."""

    @staticmethod
    def forward(ctx, x, kernel, dilation):
        padding = dilation * (kernel.shape[2] // 2)
        out = F.conv2d(x, kernel, padding=padding, dilation=dilation)
        ctx.dilation = dilation
        _save(ctx, out.dtype, ctx.needs_input_grad[1], x, kernel)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, kernel = ctx.saved_tensors
        grads = _convolution_backward(grad, x, kernel, 1, ctx.dilation)
        return *_cast(ctx, grads), None


class Separable(torch.autograd.Function):
    """Depthwise convolutions of n edges, then their pointwise ones.

    What is between them is not kept, but computed again for the gradient of
    the pointwise kernels. Input and output are (N, n * C, H, W), and kernels
    have n * C rows, one edge behind the other.
    """

    @staticmethod
    def forward(ctx, x, depthwise, pointwise, fan_out):
        if is_on_gpu(x):
            pointwise = _block_diagonal(pointwise, fan_out)
        out = _pointwise(_depthwise(x, depthwise), pointwise, fan_out)
        ctx.fan_out = fan_out
        of_kernels = any(ctx.needs_input_grad[1:3])
        _save(ctx, out.dtype, of_kernels, x, depthwise, pointwise)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, depthwise, pointwise = ctx.saved_tensors
        between = None if x is None else partial(_depthwise, x, depthwise)
        grad, grad_pointwise = _pointwise_backward(
            grad, between, pointwise, ctx.fan_out
        )
        grad_x, grad_depthwise = _convolution_backward(
            grad, x, depthwise, len(depthwise)
        )
        return *_cast(ctx, (grad_x, grad_depthwise, grad_pointwise)), None


class Join(torch.autograd.Function):
    """``torch.cat`` of channels, as many in each part."""

    @staticmethod
    def forward(ctx, *parts):
        ctx.number = len(parts)
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx, grad):
        grad = grad.unflatten(1, (ctx.number, -1)).transpose(0, 1)
        # Otherwise, each of them is made contiguous, once or twice.
        return (grad.contiguous() if is_on_gpu(grad) else grad).unbind()


class WeightedSum(torch.autograd.Function):
    """Add (N, number, M), weighted by (n, number), to (N, n, M)."""

    @staticmethod
    def forward(ctx, addend, weights, x):
        out = torch.baddbmm(addend, weights.expand(len(x), -1, -1), x)
        _save(ctx, out.dtype, ctx.needs_input_grad[1], x, weights)
        ctx.dtypes = addend.dtype, weights.dtype, x.dtype
        return out

    @staticmethod
    def backward(ctx, grad):
        x, weights = ctx.saved_tensors
        grad_weights = None
        if ctx.needs_input_grad[1]:
            grad_weights = aside(partial(_inner_products, grad, x))
        matrices = weights.t().expand(len(grad), -1, -1)
        return _cast(ctx, (grad, grad_weights, torch.bmm(matrices, grad)))


def _save(ctx, dtype, of_kernels, x, *kernels):
    """Save the kernels, and the input if they want gradients."""
    tensors = (x if of_kernels else None, *kernels)
    ctx.dtypes = [tensor.dtype for tensor in (x, *kernels)]
    # Autocast reaches forward alone.
    ctx.save_for_backward(
        *(None if tensor is None else tensor.to(dtype) for tensor in tensors)
    )


def _cast(ctx, grads):
    """Gradients in the precision of what they are of."""
    return tuple(
        None if grad is None else grad.to(dtype)
        for grad, dtype in zip(grads, ctx.dtypes)
    )


def _depthwise(x, kernel):
    padding = kernel.shape[2] // 2
    return F.conv2d(x, kernel, padding=padding, groups=len(kernel))


def _pointwise(x, kernel, fan_out):
    if not is_on_gpu(x):
        return F.conv2d(x, kernel, groups=fan_out)
    return torch.bmm(kernel.expand(len(x), -1, -1), x.flatten(2)).view(x.shape)


def _pointwise_backward(grad, x, kernel, fan_out):
    """Gradients as below; the input is given by a function."""
    if not is_on_gpu(grad):
        x = None if x is None else x()
        return _convolution_backward(grad, x, kernel, fan_out)

    def of_kernel():
        shape = len(grad) * fan_out, len(kernel) // fan_out, -1
        products = torch.bmm(grad.reshape(shape), x().reshape(shape).mT)
        products = products.unflatten(0, (len(grad), -1)).sum(0)
        return products.flatten(0, 1)[:, :, None, None]

    matrix = kernel.t().expand(len(grad), -1, -1)
    return (
        torch.bmm(matrix, grad.flatten(2)).view(grad.shape),
        None if x is None else aside(of_kernel),
    )


def _block_diagonal(kernel, fan_out):
    """Pointwise kernels of n edges as a matrix (n * C, n * C).

    On a GPU one large product is many times as fast as small ones.
    """
    width = kernel.shape[1]
    blocks = kernel.view(fan_out, width, width)
    matrix = kernel.new_zeros(fan_out, width, fan_out, width)
    matrix.diagonal(dim1=0, dim2=2).copy_(blocks.permute(1, 2, 0))
    return matrix.view(len(kernel), len(kernel))


def _inner_products(x, y):
    """Of (N, n, M) and (N, m, M), summed to (n, m)."""
    if not is_on_gpu(x):
        return torch.bmm(x, y.mT).sum(0)
    # A matrix product has little for a GPU to do at once.
    return (x.unsqueeze(2) * y.unsqueeze(1)).sum((0, 3))


def _convolution_backward(grad, x, kernel, groups, dilation=1):
    """Gradients of the input, and of the kernel where the input is given."""

    def gradients(of_input, of_kernel):
        padding = dilation * (kernel.shape[2] // 2)
        return torch.ops.aten.convolution_backward(
            grad,
            # That of the input needs no more than the shape of it.
            grad[:, : groups * kernel.shape[1]] if x is None else x,
            kernel,
            None,
            # Stride, padding, dilation, not transposed, output padding.
            *([1, 1], [padding] * 2, [dilation] * 2, False, [0, 0]),
            groups,
            [of_input, of_kernel, False],
        )

    if x is None or not is_branching():
        return gradients(True, x is not None)[:2]
    of_kernel = aside(lambda: gradients(False, True)[1])
    return gradients(True, False)[0], of_kernel


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
