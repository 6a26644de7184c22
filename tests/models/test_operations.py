"""The primitives, each against its definition."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmseg_autodeeplab.arch import PRIMITIVES
from mmseg_autodeeplab.models.layers import build_operation

BN = dict(type='BN')
C = 6


def build(name, stride=1):
    torch.manual_seed(0)
    operation = build_operation(name, C, stride, BN)
    for m in operation.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias)
    return operation.double()


def weights(operation):
    """Weights of the convolutions in order, and the norms."""
    convs = [m.weight for m in operation.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in operation.modules() if isinstance(m, nn.BatchNorm2d)]
    return convs, norms


def normalised(x, norm):
    mean = x.mean((0, 2, 3), keepdim=True)
    var = x.var((0, 2, 3), keepdim=True, unbiased=False)
    return (x - mean) / (var + norm.eps).sqrt() * norm.weight.view(
        1, -1, 1, 1
    ) + norm.bias.view(1, -1, 1, 1)


def sep_conv(operation, x, kernel, stride):
    (dw1, pw1, dw2, pw2), (norm1, norm2) = weights(operation)
    for dw, pw, norm, s in ((dw1, pw1, norm1, stride), (dw2, pw2, norm2, 1)):
        x = F.conv2d(x.relu(), dw, stride=s, padding=kernel // 2, groups=C)
        x = normalised(F.conv2d(x, pw), norm)
    return x


def atrous_conv(operation, x, kernel, stride):
    (weight,), (norm,) = weights(operation)
    assert weight.shape == (C, C, kernel, kernel)  # plain, not separable
    x = x.relu()
    if stride == 2:
        size = [(n - 1) // 2 + 1 for n in x.shape[2:]]
        x = F.interpolate(x, size=size, mode='bilinear', align_corners=True)
        return normalised(F.conv2d(x, weight, padding=kernel // 2), norm)
    return normalised(
        F.conv2d(x, weight, padding=2 * (kernel // 2), dilation=2), norm
    )


def pool(operation, x, mode, stride):
    value = 0.0 if mode == 'avg' else -1e30
    windows = (
        F.pad(x, (1, 1, 1, 1), value=value)
        .unfold(2, 3, stride)
        .unfold(3, 3, stride)
    )
    if mode == 'max':
        return windows.amax((-1, -2))
    counted = (
        F.pad(torch.ones_like(x), (1, 1, 1, 1))
        .unfold(2, 3, stride)
        .unfold(3, 3, stride)
    )
    return windows.sum((-1, -2)) / counted.sum((-1, -2))


def skip(operation, x, stride):
    if stride == 1:
        return x
    (weight,), (norm,) = weights(operation)
    return normalised(F.conv2d(x.relu(), weight, stride=2), norm)


ORACLES = {
    'max_pool_3x3': lambda o, x, s: pool(o, x, 'max', s),
    'avg_pool_3x3': lambda o, x, s: pool(o, x, 'avg', s),
    'skip_connect': skip,
    'sep_conv_3x3': lambda o, x, s: sep_conv(o, x, 3, s),
    'sep_conv_5x5': lambda o, x, s: sep_conv(o, x, 5, s),
    'atrous_conv_3x3': lambda o, x, s: atrous_conv(o, x, 3, s),
    'atrous_conv_5x5': lambda o, x, s: atrous_conv(o, x, 5, s),
}


def test_every_primitive_but_none_has_an_oracle():
    assert ['none', *ORACLES] == list(PRIMITIVES)
    with pytest.raises(KeyError):
        build_operation('none', C, 1, BN)


@pytest.mark.parametrize('size', [(9, 9), (8, 11), (5, 12)])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('name', ORACLES)
def test_operation_is_its_definition(name, stride, size):
    operation = build(name, stride)
    x = torch.randn(2, C, *size, dtype=torch.double)
    before = x.clone()
    out = operation(x)
    assert out.shape[2:] == tuple(-(-n // stride) for n in size)
    torch.testing.assert_close(out, ORACLES[name](operation, x, stride))
    assert torch.equal(x, before)  # a state is read by others too


@pytest.mark.parametrize('name', ORACLES)
def test_norm_is_the_configured_one(name):
    operation = build_operation(name, C, 2, dict(type='GN', num_groups=2))
    norms = {type(m) for m in operation.modules()} & {
        nn.GroupNorm,
        nn.BatchNorm2d,
    }
    assert norms <= {nn.GroupNorm}
    operation = build_operation(name, C, 1, dict(type='BN', affine=False))
    assert all(
        isinstance(m, nn.Conv2d)
        for m in operation.modules()
        if list(m.parameters(recurse=False))
    )


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('name', ORACLES)
def test_the_table_says_what_is_built(name, stride):
    operation = build_operation(name, C, stride, BN)
    built = []
    for m in operation.modules():
        if isinstance(m, nn.Conv2d):
            built.append((m.kernel_size[0], m.groups == C, False))
        elif isinstance(m, nn.BatchNorm2d):
            built[-1] = (*built[-1][:2], True)
    assert built == list(PRIMITIVES[name].convs_at(stride))
