"""The head of templates and layers, and networks of it.

Numbers are those that the reference measured on the authors' code.
"""

import functools

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from tester import HeadTester
from torch import nn

from mmseg_autodeeplab.arch import ZOO, TemplateSpace
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.models.complexity import (
    count_multiply_adds,
    count_parameters,
)

# Every operation and aggregation, and the finest stride at the end.
EVERYTHING = dict(
    templates=[
        ['skip_connect', 'sep_conv_3x3', 'psum'],
        ['global_average_pool', 'sep_conv_5x5_dil6', 'cat'],
        ['max_pool_3x3', 'sep_conv_5x5', 'psum'],
    ],
    layers=[
        dict(inputs=[0, 1], template=0, repeats=2, stride=2),
        dict(inputs=[1, 0], template=1, repeats=3, stride=1),
        dict(inputs=[2, 3], template=2, repeats=1, stride=1),
        dict(inputs=[4, 0], template=1, repeats=2, stride=1),
    ],
)
# By layer: parameters, then channels, height and width for 360 x 480.
LAYERS = dict(
    arch0=[
        (20_160, 64, 12, 15),
        (41_984, 64, 12, 15),
        (52_096, 64, 12, 15),
        (7_040, 32, 45, 60),
        (16_784, 64, 90, 120),
        (47_680, 64, 45, 60),
        (12_400, 32, 90, 120),
    ],
    arch1=[
        (7_616, 32, 45, 60),
        (21_256, 64, 12, 15),
        (57_344, 64, 12, 15),
        (38_528, 64, 90, 120),
        (5_296, 32, 90, 120),
        (19_712, 32, 45, 60),
        (38_528, 64, 90, 120),
    ],
)
HEADS = dict(arch0=14_464, arch1=12_416)
NODES = [(1, 24, 90, 120), (1, 32, 45, 60)]  # for 360 x 480


def build(arch='arch0', in_channels=(24, 32), in_index=(0, 1), **kwargs):
    init_default_scope('mmseg')
    cfg = dict(num_classes=11, norm_cfg=dict(type='BN'), in_index=in_index)
    cfg.update(type='TemplateHead', arch=arch, in_channels=in_channels)
    torch.manual_seed(0)
    return MODELS.build(dict(cfg, **kwargs))


def network(arch, num_classes, expand_first=True, **head):
    init_default_scope('mmseg')
    head = dict(type='TemplateHead', arch=arch, in_channels=(24, 32), **head)
    head.update(num_classes=num_classes, norm_cfg=dict(type='BN'))
    backbone = dict(type='TruncatedMobileNetV2', expand_first=expand_first)
    with torch.device('meta'):
        return MODELS.build(
            dict(type='EncoderDecoder', backbone=backbone, decode_head=head)
        )


class TestPublished(HeadTester):
    cfg = dict(
        type='TemplateHead',
        arch='arch0',
        in_channels=[3, 4],
        channels=5,
        num_classes=3,
        align_corners=True,
        norm_cfg=dict(type='BN'),
    )
    strides = (4, 8)
    base = 'template_mobilenet-v2.py'


class TestOtherOperations(TestPublished):
    # Batch norm of two pooled values lets no gradient through.
    cfg = dict(
        TestPublished.cfg,
        arch=dict(EVERYTHING, templates=[*EVERYTHING['templates'][::2]] * 2),
    )


@pytest.mark.parametrize(
    'arch, num_classes, expected, without_expansion, searched',
    [
        ('arch0', 11, 275_531, 274_443, 224_883),
        ('arch0', 19, 280_147, 279_059, 228_347),
        ('arch1', 11, 263_619, 262_531, 195_123),
        ('arch1', 19, 268_235, 267_147, 198_587),
    ],
)
def test_published_parameters(
    arch, num_classes, expected, without_expansion, searched
):
    assert count_parameters(network(arch, num_classes)) == (expected, 0)
    assert count_parameters(network(arch, num_classes, False)) == (
        without_expansion,
        0,
    )
    small = network(arch, num_classes, channels=48, sep_repeats=1)
    assert count_parameters(small) == (searched, 0)


@pytest.mark.parametrize(
    'arch, num_classes, height, width, expected',
    [
        ('arch0', 11, 360, 480, 1.082),
        ('arch0', 19, 360, 480, 1.132),
        ('arch0', 11, 720, 960, 4.324),
        ('arch0', 19, 512, 1024, 3.430),
        ('arch0', 19, 1024, 2048, 13.718),
        ('arch1', 11, 360, 480, 1.493),
        ('arch1', 19, 360, 480, 1.543),
        ('arch1', 11, 720, 960, 5.970),
        ('arch1', 19, 512, 1024, 4.679),
        ('arch1', 19, 1024, 2048, 18.716),
    ],
)
def test_published_multiply_adds(arch, num_classes, height, width, expected):
    model = network(arch, num_classes)
    found = count_multiply_adds(model, 3, height, width) / 1e9
    assert found == pytest.approx(expected, abs=6e-4)


def count(module):
    return sum(p.numel() for p in module.parameters())


def shapes_within(modules, head, features):
    """Shapes of what modules give, by their position."""
    found = {}
    for place, module in enumerate(modules):
        module.register_forward_hook(
            lambda _, inputs, out, place=place: found.update(
                {place: tuple(out.shape)}
            )
        )
    head = head.eval().to('meta')
    with torch.no_grad():
        out = head([torch.empty(shape, device='meta') for shape in features])
    return [found[place] for place in sorted(found)], tuple(out.shape)


@pytest.mark.parametrize('arch', LAYERS)
def test_every_layer_of_the_published_networks(arch):
    """Its parameters and shape, and those of the rest of the head."""
    head = build(arch)
    found, out = shapes_within(head.layers, head, NODES)
    parameters = map(count, head.layers)
    assert [
        (number, *shape[1:]) for number, shape in zip(parameters, found)
    ] == LAYERS[arch]
    assert out == (1, 11, 90, 120)
    assert count(head.project) == HEADS[arch]
    assert count(head.conv_seg) == 64 * 9 * 11 + 11


def test_at_the_size_of_cityscapes():
    nodes = [(1, 24, 256, 512), (1, 32, 128, 256)]
    for arch in LAYERS:
        head = build(arch)
        found, out = shapes_within(head.layers, head, nodes)
        assert min(shape[2:] for shape in found) == (32, 64)
        assert out == (1, 11, 256, 512)


def test_strides_within_a_layer():
    """The reference's worked example, the second layer of arch1."""
    head = build('arch1')
    parts = [
        part
        for block in head.layers[1]
        for part in (block.first, block.second, block.aggregation)
    ]
    found, _ = shapes_within(parts, head, NODES)
    assert [shape[1:] for shape in found] == [
        (48, 23, 30),  # 5x5 of the fine feature: by 4, two units of 2
        (64, 23, 30),
        (64, 23, 30),
        (32, 12, 15),  # and again, of the coarse feature
        (64, 12, 15),
        (64, 12, 15),
    ]


def test_a_stride_that_is_taken_once():
    """In the first repeat, by the first unit; with as many parameters."""
    for arch, node in dict(arch0=0, arch1=1).items():
        head = build(arch, stride_everywhere=False)
        assert count(head) == count(build(arch))
        found, _ = shapes_within(head.layers, head, NODES)
        assert found[node][2:] == (23, 30)
    blocks = head.layers[1]
    parts = [blocks[0].first, blocks[0].second, blocks[1].first]
    found, _ = shapes_within(parts, head, NODES)
    assert [shape[2:] for shape in found] == [(45, 60), (23, 30), (45, 60)]


# ---- The reference, sections 1.2 to 1.5, by functions of weights ----


def norm(x, state):
    mean, var, weight, bias = (
        state[f'bn.{name}']
        for name in ('running_mean', 'running_var', 'weight', 'bias')
    )
    return F.batch_norm(x, mean, var, weight, bias)


def conv_norm(x, state, **kwargs):
    return norm(F.conv2d(x, state['conv.weight'], **kwargs), state)


def within(state, name):
    return {
        key.removeprefix(f'{name}.'): value
        for key, value in state.items()
        if key.startswith(f'{name}.')
    }


def interpolate(x, size):
    return F.interpolate(x, size, mode='bilinear', align_corners=False)


def operation(name, x, state, strides, channels):
    if name == 'skip_connect':
        return torch.cat(channels // x.shape[1] * [x], dim=1)
    if name == 'global_average_pool':
        out = F.adaptive_avg_pool2d(x, 1)
        out = conv_norm(out, state).relu()
        return interpolate(out, x.shape[2:])
    if name == 'max_pool_3x3':
        out = conv_norm(x, within(state, '0'))
        return F.max_pool2d(out, 3, strides[0], padding=1)
    pad, rate = dict(
        sep_conv_3x3=(1, 1), sep_conv_5x5=(2, 1), sep_conv_5x5_dil6=(12, 6)
    )[name]
    for unit, stride in enumerate(strides):
        depthwise = state[f'{2 * unit}.conv.weight']
        options = dict(padding=pad, dilation=rate, groups=x.shape[1])
        x = F.conv2d(x, depthwise, stride=stride, **options)
        x = conv_norm(x, within(state, f'{2 * unit + 1}')).relu()
    return x


def aggregation(kind, branches, state, larger):
    channels = max(x.shape[1] for x in branches)
    branches = [
        x
        if x.shape[1] == channels
        else conv_norm(x, within(state, f'adapt.{i}')).relu()
        for i, x in enumerate(branches)
    ]
    pick = max if larger else min
    size = pick((x.shape[2:] for x in branches), key=lambda size: size[0])
    u, v = (interpolate(x, size) for x in branches)
    if kind == 'psum':
        a, b = state['weights']
        return a * u + b * v
    state = within(state, 'cat')
    out = norm(torch.cat([u, v], 1), state).relu()
    return F.conv2d(out, state['conv.weight'])


def reference(head, features, everywhere):
    """The logits of a head in evaluation."""
    arch, state = head.arch, head.state_dict()
    nodes, read = list(features), set()
    for i, layer in enumerate(arch.layers):
        f, g, kind = arch.templates[layer.template]
        x1, x2 = (nodes[node] for node in layer.inputs)
        read.update(layer.inputs)
        for k in range(layer.repeats):
            block = within(state, f'layers.{i}.{k}')
            strides = head.sep_repeats * [layer.stride]
            if not everywhere:
                strides = [1] * head.sep_repeats
                strides[0] = layer.stride if k == 0 else 1
            factor = layer.stride if k == 0 else 1
            branches = [
                operation(
                    name, x, within(block, part), strides, factor * x.shape[1]
                )
                for name, part, x in ((f, 'first', x1), (g, 'second', x2))
            ]
            larger = i >= len(arch.layers) // 2
            x1, x2 = (
                x2,
                aggregation(
                    kind, branches, within(block, 'aggregation'), larger
                ),
            )
        nodes.append(x2)
    ends = [x for i, x in enumerate(nodes) if i > 1 and i not in read]
    size = max((x.shape[2:] for x in ends), key=lambda size: size[0])
    x = torch.cat([interpolate(x, size) for x in ends], dim=1).relu()
    x = conv_norm(x, within(state, 'project')).relu()
    weight, bias = state['conv_seg.weight'], state['conv_seg.bias']
    return F.conv2d(x, weight, bias, padding=1)


def archs():
    yield from ({'arch': name} for name in ('arch0', 'arch1'))
    yield dict(arch=EVERYTHING)
    for seed in range(6):
        space = TemplateSpace(2 + seed % 3, 1 + seed)
        yield dict(
            arch=space.random(seed).content(),
            sep_repeats=1 + seed % 3,
            stride_everywhere=seed % 2 == 0,
        )


@pytest.mark.parametrize('options', list(archs()))
@torch.no_grad()
def test_outputs_are_those_of_the_reference(options):
    head = build(in_channels=(4, 6), channels=5, **options).double().eval()
    for name, value in head.state_dict().items():
        if name.endswith('running_var'):
            value.uniform_(0.5, 2)
        elif value.is_floating_point():
            value.normal_(0, 0.5)
    features = [
        torch.randn(2, 4, 23, 37, dtype=torch.double),
        torch.randn(2, 6, 12, 19, dtype=torch.double),
    ]
    everywhere = options.get('stride_everywhere', True)
    torch.testing.assert_close(
        head(features), reference(head, features, everywhere)
    )


# ---- Training ----


@pytest.mark.parametrize('seed', range(10))
@pytest.mark.parametrize('batch, size', [(1, (32, 32)), (2, (33, 70))])
def test_random_ones_train_at_any_size(seed, batch, size):
    """From 32 pixels on, where features may shrink to single values."""
    arch = TemplateSpace().random(seed)
    head = build(arch.content(), in_channels=(3, 4), channels=4)
    height, width = ((side + 3) // 4 for side in size)
    features = [
        torch.randn(batch, 3, height, width),
        torch.randn(batch, 4, (height + 1) // 2, (width + 1) // 2),
    ]
    out = head(features)
    out.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())
    with torch.no_grad():
        assert head.eval()(features).isfinite().all()


def test_stock_backbones_have_features_for_it():
    """Any two of them."""
    init_default_scope('mmseg')
    backbone = MODELS.build(dict(type='ResNet', depth=18))
    heads = build('arch1', (64, 256), (0, 2)), build('arch1', (64, 256))
    with torch.no_grad():
        features = backbone(torch.randn(2, 3, 65, 97))
        assert len(features) == 4
        out, expected = (
            head(inputs)
            for head, inputs in zip(heads, (features, features[::2]))
        )
    assert out.shape == (2, 11, 17, 25)
    assert torch.equal(out, expected)


@torch.no_grad()
def test_initialisation_is_that_of_pytorch():
    """Uniform within 1 / sqrt(fan in); norms and sums are neutral."""
    head = build('arch1')
    head.init_weights()
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight
            bound = weight[0].numel() ** -0.5
            assert weight.abs().max() <= bound
            if weight.numel() > 1000:
                assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.1)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()
    assert (head.layers[0][0].aggregation.weights == 1).all()


def test_nothing_is_dropped_unless_asked_for():
    torch.manual_seed(0)
    features = [torch.randn(2, 24, 9, 9), torch.randn(2, 32, 5, 5)]
    head = build()
    torch.testing.assert_close(head(features), head(features))
    head = build(dropout_ratio=0.5)
    assert not torch.equal(head(features), head(features))


@pytest.mark.parametrize(
    'changes, sentence',
    [
        (dict(in_channels=8), 'in_channels=8.*two features'),
        (dict(in_channels=[1, 2, 3]), r'in_channels=\[1, 2, 3\]'),
        (dict(in_index=[0, 1, 2]), r'in_index=\[0, 1, 2\].*two numbers'),
        (dict(sep_repeats=0), 'sep_repeats=0.*1 unit or more'),
        (dict(sep_repeats=1.5), 'sep_repeats=1.5'),
        (dict(arch='dpc'), r'name in the zoo \(arch0, arch1\)'),
        (dict(arch=ZOO['dpc'].content()), 'the field .* is unknown|missing'),
    ],
)
def test_what_a_head_may_not_be(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        build(**changes)


# ---- The backbone ----


@functools.cache
def whole():
    init_default_scope('mmseg')
    torch.manual_seed(0)
    backbone = MODELS.build(dict(type='MobileNetV2', out_indices=(1, 2)))
    backbone.init_weights()
    backbone.eval()
    return backbone


def truncated(**kwargs):
    init_default_scope('mmseg')
    return MODELS.build(dict(type='TruncatedMobileNetV2', **kwargs))


@torch.no_grad()
def test_the_first_stages_are_those_of_the_whole():
    """With its weights, which a checkpoint has; and with no other ones."""
    backbone = truncated()
    state = whole().state_dict()
    own = {k: v for k, v in state.items() if k in backbone.state_dict()}
    assert backbone.load_state_dict(state, strict=False).missing_keys == []
    assert len(own) < len(state)
    image = torch.randn(1, 3, 65, 97)
    backbone.eval()
    for found, expected in zip(backbone(image), whole()(image), strict=True):
        assert torch.equal(found, expected)
    assert [count(m) for m in backbone.children()] == [928, 896, 13968, 39696]


@torch.no_grad()
def test_the_expansion_of_the_first_stage():
    """1 088 parameters more, behind the stem and ahead of the rest."""
    backbone = truncated(expand_first=True)
    assert [count(m) for m in backbone.children()] == [928, 1984, 13968, 39696]
    missing = backbone.load_state_dict(
        whole().state_dict(), strict=False
    ).missing_keys
    assert missing and all('layer1.expand' in name for name in missing)
    backbone.eval()
    image = torch.randn(1, 3, 64, 64)
    without = truncated().eval()
    without.load_state_dict(whole().state_dict(), strict=False)
    assert not torch.equal(backbone(image)[0], without(image)[0])
    expand = backbone.layer1.expand
    expand.conv.weight.copy_(torch.eye(32)[..., None, None])
    for found, expected in zip(backbone(image), without(image), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_stages_of_it_are_frozen():
    backbone = truncated(expand_first=True, frozen_stages=1, norm_eval=True)
    assert backbone.train() is backbone
    trained = {
        name.split('.')[0]
        for name, p in backbone.named_parameters()
        if p.requires_grad
    }
    assert trained == {'layer2', 'layer3'}
    assert not backbone.layer1.expand.bn.training
