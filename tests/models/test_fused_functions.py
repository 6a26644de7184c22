"""Functions of the fused form, in the ways of either device, by autograd."""

import pytest
import torch
import torch.nn.functional as F

from mmseg_autodeeplab.models.layers import fused_functions
from mmseg_autodeeplab.models.layers.fused_functions import (
    Convolution,
    Join,
    Separable,
    WeightedSum,
)

N, C, H, W = 2, 3, 7, 6


@pytest.fixture(
    params=[(gpu, graph) for gpu in (False, True) for graph in (False, True)],
    ids=['cpu', 'cpu, apart', 'gpu', 'gpu, apart'],
    autouse=True,
)
def way(request, monkeypatch):
    """As on a GPU, and with gradients apart from each other, as in a graph."""
    for name, value in zip(('is_on_gpu', 'is_branching'), request.param):
        monkeypatch.setattr(
            fused_functions, name, lambda *args, value=value: value
        )


def randn(*shape):
    return torch.randn(shape, dtype=torch.double)


def compare(function, expected, *tensors, wanted=None):
    """Outputs and gradients, of the tensors that want some."""
    results = []
    torch.manual_seed(1)
    direction = randn(*expected(*tensors).shape)
    for one in (function, expected):
        leaves = [t.clone() for t in tensors]
        for i in range(len(leaves)) if wanted is None else wanted:
            leaves[i].requires_grad_()
        out = one(*leaves)
        (out * direction).sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for found, oracle in zip(*results):
        torch.testing.assert_close(found, oracle, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('wanted', [None, [0], [0, 2], [1, 2]])
@pytest.mark.parametrize('fan_out,kernel', [(1, 3), (3, 5)])
def test_separable(fan_out, kernel, wanted):
    torch.manual_seed(0)
    width = fan_out * C
    compare(
        lambda *tensors: Separable.apply(*tensors, fan_out),
        lambda x, depthwise, pointwise: F.conv2d(
            F.conv2d(x, depthwise, padding=kernel // 2, groups=width),
            pointwise,
            groups=fan_out,
        ),
        randn(N, width, H, W),
        randn(width, 1, kernel, kernel),
        randn(width, C, 1, 1),
        wanted=wanted,
    )


@pytest.mark.parametrize('wanted', [None, [0], [1]])
@pytest.mark.parametrize('dilation', [1, 2])
def test_convolution(dilation, wanted):
    torch.manual_seed(0)
    compare(
        lambda *tensors: Convolution.apply(*tensors, dilation),
        lambda x, kernel: F.conv2d(
            x, kernel, padding=2 * dilation, dilation=dilation
        ),
        randn(N, C, H, W),
        randn(2 * C, C, 5, 5),
        wanted=wanted,
    )


@pytest.mark.parametrize('wanted', [None, [0, 2]])
def test_weighted_sum(wanted):
    torch.manual_seed(0)
    compare(
        WeightedSum.apply,
        lambda addend, weights, x: (
            addend + torch.einsum('en,knm->kem', weights, x)
        ),
        randn(N, 4, 5),
        randn(4, 3),
        randn(N, 3, 5),
        wanted=wanted,
    )


def test_join():
    torch.manual_seed(0)
    compare(
        lambda *parts: Join.apply(*parts),
        lambda *parts: torch.cat(parts, dim=1),
        *(randn(N, C, H, W) for _ in range(3)),
    )
