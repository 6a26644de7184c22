"""The heads: sizes, rates, and the batch of one image."""

import copy
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from tester import HeadTester
from torch import nn

from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.models.decode_heads import auto_deeplab_head
from mmseg_autodeeplab.models.decode_heads.auto_deeplab_head import (
    HeadConv,
    ImagePool,
)

init_default_scope('mmseg')
BN = dict(type='BN')


class TestAutoDeepLabHead(HeadTester):
    base = 'autodeeplab.py'
    strides = (4, 8)
    cfg = dict(
        type='AutoDeepLabHead',
        in_channels=[6, 10],
        channels=8,
        low_level_channels=4,
        num_classes=3,
        norm_cfg=BN,
        align_corners=True,
    )


class TestAutoDeepLabSearchHead(HeadTester):
    base = 'autodeeplab_supernet.py'
    strides = (4, 8, 16, 32)
    cfg = dict(
        type='AutoDeepLabSearchHead',
        in_channels=[4, 8, 16, 32],
        num_classes=3,
        dropout_ratio=0,
        norm_cfg=BN,
        align_corners=True,
    )


head = TestAutoDeepLabHead().build
search_head = TestAutoDeepLabSearchHead().build


def features(size, batch=2):
    return [
        torch.randn(batch, 4 * s // 4, -(-size // s), -(-size // s))
        for s in (4, 8, 16, 32)
    ]


def test_published_head_has_3_116_595_parameters():
    published = head(
        in_channels=[100, 200],
        channels=256,
        low_level_channels=48,
        num_classes=19,
    )
    assert sum(p.numel() for p in published.parameters()) == 3_116_595
    dilations = [
        m.dilation[0]
        for m in published.modules()
        if isinstance(m, torch.nn.Conv2d) and m.dilation != (1, 1)
    ]
    assert dilations == [12, 24, 36]


def test_retrain_head_is_aspp_then_decoder():
    net = head(dropout_ratio=0.0).eval()
    low, final = torch.randn(2, 6, 17, 17), torch.randn(2, 10, 9, 9)
    pooled = net.image_pool.conv(final.mean((2, 3), keepdim=True))
    pooled = net.image_pool.bn(pooled).relu().expand(-1, -1, 9, 9)
    x = torch.cat([pooled] + [branch(final) for branch in net.aspp], 1)
    x = F.interpolate(
        net.project(x), size=(17, 17), mode='bilinear', align_corners=True
    )
    x = net.decoder(torch.cat([x, net.low_level(low)], 1))
    torch.testing.assert_close(
        net([low, torch.zeros(1), final]), net.conv_seg(x)
    )


def test_dropout_drops_single_values_behind_the_projection():
    net = head(dropout_ratio=0.5)
    dropped = []
    net.dropout.register_forward_hook(
        lambda m, args, out: dropped.append((args[0], out))
    )
    net([torch.randn(2, 6, 17, 17), torch.randn(2, 10, 9, 9)])
    ((before, after),) = dropped
    assert before.shape == (2, 8, 9, 9)
    kept = after[before > 0].ne(0).float()
    assert 0.4 < kept.mean() < 0.6
    whole = after.flatten(2).ne(0).any(-1)
    assert whole.float().mean() > 0.9  # no channel as a whole


@pytest.mark.parametrize(
    'options, expected',
    [
        ({}, [24, 12, 6, 3]),
        (dict(rate=32), [8, 4, 2]),
        (dict(rate=16), [4, 2]),  # and 1x1 convolutions
    ],
)
def test_search_rates_are_over_s(options, expected):
    rates = [
        m.dilation[0]
        for m in search_head(**options).modules()
        if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)
    ]
    assert rates == expected


def test_every_scale_has_three_branches_of_its_own_width():
    net = search_head()
    for width, aspp, pool, classifier in zip(
        (4, 8, 16, 32), net.aspp, net.image_pool, net.conv_seg
    ):
        assert [b.conv.out_channels for b in aspp] == [width, width]
        assert pool.conv.out_channels == width
        assert classifier.in_channels == 3 * width
    assert len(net.aspp) == 4


def test_summing_at_stride_4_is_summing_at_the_input():
    """For 32 k + 1 pixels, as in the paper's crops."""
    net = search_head().double().eval()
    inputs = [x.double() for x in features(129)]
    at_input = 0
    for x, aspp, pool, classifier in zip(
        inputs, net.aspp, net.image_pool, net.conv_seg
    ):
        logits = classifier(torch.cat([*aspp(x), pool(x)], 1))
        at_input = at_input + F.interpolate(
            logits, size=(129, 129), mode='bilinear', align_corners=True
        )
    summed = F.interpolate(
        net(inputs), size=(129, 129), mode='bilinear', align_corners=True
    )
    torch.testing.assert_close(summed, at_input)


def test_search_head_needs_four_scales():
    with pytest.raises(UserError, match='4 scales'):
        search_head(in_channels=[4, 8])


def test_a_batch_of_one_uses_running_statistics_and_says_so_once(monkeypatch):
    said = []
    monkeypatch.setattr(
        auto_deeplab_head, 'print_once', cache(lambda *args: said.append(args))
    )
    x = torch.randn(1, 5, 7, 7)
    for pool in (ImagePool(5, 4, norm_cfg=BN), ImagePool(5, 4, norm_cfg=BN)):
        pool.bn.running_mean.normal_()
        pool.bn.running_var.uniform_(0.5, 2)
        before = copy.deepcopy(pool.bn.state_dict())
        expected = copy.deepcopy(pool).eval()(x)
        for _ in range(3):
            torch.testing.assert_close(pool(x), expected)
        for name, value in pool.bn.state_dict().items():
            assert torch.equal(value, before[name])
        pool(x).sum().backward()
        assert pool.conv.weight.grad is not None
    assert len(said) == 1 and 'running statistics' in said[0][0]


@pytest.mark.parametrize(
    'shape, own', [((1, 5, 1, 1), False), ((1, 5, 1, 2), True)]
)
def test_what_has_one_value_per_channel(shape, own):
    """Running statistics are used there, and nowhere else."""
    conv, x = HeadConv(5, 4, 1, norm_cfg=BN), torch.randn(shape)
    expected = copy.deepcopy(conv).eval()(x)
    assert torch.allclose(conv(x), expected) != own
    assert (conv.bn.running_mean != 0).any() == own
    assert conv.bn.training


def test_a_batch_of_two_uses_its_own_statistics():
    pool = ImagePool(5, 4, norm_cfg=BN)
    x = torch.randn(2, 5, 7, 7)
    y = pool.conv(x.mean((2, 3), keepdim=True))
    y = (y - y.mean(0)) / (y.var(0, unbiased=False) + pool.bn.eps).sqrt()
    torch.testing.assert_close(pool(x), y.relu().expand(-1, -1, 7, 7))


def test_initialisation_is_the_authors():
    """Xavier's uniform one; a truncated normal one for the classifier."""
    built = head(
        in_channels=[100, 200],
        channels=256,
        low_level_channels=48,
        num_classes=19,
    )
    torch.manual_seed(0)
    built.init_weights()
    convolutions = {
        name: module
        for name, module in built.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    classifier = convolutions.pop('conv_seg')
    assert classifier.weight.abs().max() <= 0.02
    # A normal distribution keeps 0.8796 of its deviation when cut off at two.
    assert classifier.weight.std().item() == pytest.approx(0.0088, rel=0.05)
    assert (classifier.bias == 0).all()
    for module in convolutions.values():
        fan_in, fan_out = module.weight[0].numel(), module.weight[:, 0].numel()
        bound = (6 / (fan_in + fan_out)) ** 0.5
        assert 0.95 * bound < module.weight.abs().max() <= bound
