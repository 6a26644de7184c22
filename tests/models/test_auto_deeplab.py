"""The derived network: the published numbers, wiring, stages, stock heads."""

import pytest
import torch
from architectures import SMALL, random_architecture
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from tester import BackboneTester
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmseg_autodeeplab.arch import AutoDeepLabArchitecture

init_default_scope('mmseg')
BN = dict(type='BN')


class TestAutoDeepLab(BackboneTester):
    base = 'autodeeplab.py'
    strides = (4, 8, 16, 32, 8)
    cfg = dict(
        type='AutoDeepLab',
        arch=SMALL,
        filter_multiplier=2,
        stem_channels=4,
        out_indices=(0, 1, 2, 3, -1),
    )

    def prepare_checkpointed(self, net):
        net.set_keep_probs([0.5] * 6)


def backbone(arch='autodeeplab', **kwargs):
    return MODELS.build(dict(type='AutoDeepLab', arch=arch, **kwargs))


def segmentor(filter_multiplier=20):
    f = filter_multiplier
    return MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(
                type='AutoDeepLab', arch='autodeeplab', filter_multiplier=f
            ),
            decode_head=dict(
                type='AutoDeepLabHead',
                in_channels=[5 * f, 10 * f],
                num_classes=19,
                norm_cfg=BN,
                align_corners=True,
            ),
        )
    )


def num_parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    'filter_multiplier,parameters,multiply_adds',
    [
        (20, 10_147_427, 320.45),
        (32, 21_622_451, 439.92),
        (48, 44_424_691, 662.42),
    ],
)
def test_published_size(filter_multiplier, parameters, multiply_adds):
    with torch.device('meta'):
        model = segmentor(filter_multiplier).eval()
    assert num_parameters(model) == parameters
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 1025, 2049, device='meta'))
    counts = counter.get_flop_counts()['Global']
    assert list(counts) == [torch.ops.aten.convolution]
    assert round(counts[torch.ops.aten.convolution] / 2e9, 2) == multiply_adds


def test_every_cell_of_the_published_network():
    """Parameters at F = 20 and sizes at 321 x 321, cell by cell."""
    with torch.device('meta'):
        net = backbone().eval()
    parameters = [
        38240,
        38960,
        38400,
        135200,
        512000,
        151200,
        536000,
        536000,
        2038400,
        2102400,
        616000,
        175200,
    ]
    channels = [100, 100, 100, 200, 400, 200, 400, 400, 800, 800, 400, 200]
    sides = [81, 81, 81, 41, 21, 41, 21, 21, 11, 11, 21, 41]
    entries = [81, 81, 81, 81, 41, 41, 41, 21, 21, 11, 21, 41]
    assert num_parameters(net.stem) == 112832
    assert [num_parameters(cell) for cell in net.cells] == parameters

    seen, entered = [], []
    for cell in net.cells:
        cell.register_forward_hook(
            lambda module, args, out: seen.append(tuple(out.shape[1:]))
        )
        cell.prev_entry.register_forward_hook(
            lambda module, args, out: entered.append(out.shape[-1])
        )
    with torch.no_grad():
        net(torch.empty(1, 3, 321, 321, device='meta'))
    assert seen == [(c, n, n) for c, n in zip(channels, sides)]
    assert entered == entries


def test_what_each_cell_reads():
    """The output before, and two back, raw; the ReLU is behind the last."""
    # In training: fresh running statistics let 1e-9 through to the end.
    net = backbone(filter_multiplier=4, stem_channels=8)
    reads, outs = [], []
    net.stem.register_forward_hook(lambda m, x, out: outs.extend(out))

    def record(module, args, out):
        reads.append(args)
        outs.append(out)

    for cell in net.cells:
        cell.register_forward_hook(record)
    with torch.no_grad():
        low, final = net(torch.randn(1, 3, 65, 65))
    for layer, (x, prev) in enumerate(reads):
        assert prev is outs[layer]
        if x.shape == outs[layer + 1].shape:
            assert x is outs[layer + 1]
        else:  # upsampled, before the cell
            assert net.arch.levels[layer] < net.arch.levels[layer - 1]
            torch.testing.assert_close(
                x,
                torch.nn.functional.interpolate(
                    outs[layer + 1],
                    size=x.shape[2:],
                    mode='bilinear',
                    align_corners=True,
                ),
            )
    assert low is outs[2 + 2] and low.min() < 0  # Cell_2, raw
    torch.testing.assert_close(final, outs[-1].relu())
    assert outs[-1].min() < -0.1


@pytest.mark.parametrize('seed', range(4))
def test_every_parameter_of_any_decoded_network_gets_a_gradient(seed):
    arch = random_architecture(1 + seed, 6, seed)
    net = backbone(arch, filter_multiplier=3, stem_channels=5)
    outs = net(torch.randn(2, 3, 65, 65))
    sum(out.square().mean() for out in outs).backward()
    assert not [
        name
        for name, p in net.named_parameters()
        if p.grad is None or not p.grad.any()
    ]


def test_out_indices_are_stages():
    net = backbone(filter_multiplier=2, out_indices=(0, 3, 4, 5))
    # Encoder end points: Cell_2, Cell_5, Cell_7, Cell_9; nothing behind them.
    assert len(net.cells) == 10
    assert net.out_channels == [10, 20, 40, 80]
    outs = net.eval()(torch.randn(1, 3, 65, 65))
    assert [out.shape[1] for out in outs] == net.out_channels
    assert all(out.min() < 0 for out in outs)  # raw: the ReLU is at the end
    assert backbone(filter_multiplier=2, out_indices=(-1, 0)).out_channels == [
        20,
        10,
    ]


def test_the_stem_is_the_low_level_feature_of_a_path_that_leaves_at_once():
    arch = AutoDeepLabArchitecture(
        random_architecture(2, 6, 0).cell, (8, 16, 16, 8)
    )
    net = backbone(arch, filter_multiplier=4, stem_channels=6)
    low, final = net(torch.randn(2, 3, 64, 64))
    assert net.out_channels == [12, 16]
    assert low.shape == (2, 12, 16, 16) and final.shape == (2, 16, 8, 8)


@pytest.mark.parametrize('out_indices', [(0, 1, 2, 3), (-4,), ()])
def test_more_stages_than_the_path_has(out_indices):
    arch = AutoDeepLabArchitecture(
        random_architecture(2, 6, 0).cell, (4, 8, 4)
    )
    with pytest.raises(ValueError, match='4-8-4 has 3 stages'):
        backbone(arch, out_indices=out_indices)


STOCK_HEADS = {
    'FCNHead': dict(in_channels=40, num_convs=1),
    'ASPPHead': dict(in_channels=40, dilations=(1, 6)),
    'DepthwiseSeparableASPPHead': dict(
        in_channels=40, dilations=(1, 6), c1_in_channels=20, c1_channels=8
    ),
    'UPerHead': dict(
        in_channels=[20, 40, 80, 160],
        in_index=[0, 1, 2, 3],
        out_indices=(0, 3, 4, 5),
        pool_scales=(1, 2),
    ),
}


@pytest.mark.parametrize('head', STOCK_HEADS)
def test_stock_heads(head):
    head_cfg = dict(STOCK_HEADS[head])
    out_indices = head_cfg.pop('out_indices', (0, -1))
    head_cfg.setdefault('in_index', -1)
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(
                type='AutoDeepLab',
                arch='autodeeplab',
                filter_multiplier=4,
                out_indices=out_indices,
            ),
            decode_head=dict(
                type=head, channels=16, num_classes=4, norm_cfg=BN, **head_cfg
            ),
            test_cfg=dict(mode='whole'),
        )
    )
    out = model(torch.randn(2, 3, 97, 65))
    assert out.shape[:2] == (2, 4)
    out.square().mean().backward()
    unused = {n for n, p in model.named_parameters() if p.grad is None}
    assert not unused


def small(**kwargs):
    torch.manual_seed(0)
    return backbone(filter_multiplier=2, stem_channels=4, **kwargs)


@pytest.mark.parametrize(
    'frozen_stages,cells', [(-1, 0), (0, 3), (1, 4), (7, 12)]
)
def test_frozen_stages(frozen_stages, cells):
    net = small(frozen_stages=frozen_stages).train()
    frozen = list(net.cells[:cells])
    if frozen_stages >= 0:
        frozen.append(net.stem)
    names = {id(p) for module in frozen for p in module.parameters()}
    assert all(
        p.requires_grad == (id(p) not in names) for p in net.parameters()
    )
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net(torch.randn(2, 3, 65, 65))
    changed = {
        k for k, v in net.state_dict().items() if not torch.equal(v, before[k])
    }
    expected = {'stem'} if frozen_stages < 0 else set()
    expected |= {f'cells.{i}' for i in range(cells, 12)}
    assert {
        '.'.join(k.split('.')[:2]) if k.startswith('cells') else 'stem'
        for k in changed
    } == expected


def test_norm_eval_keeps_statistics_and_trains_weights():
    net = small(norm_eval=True).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net(torch.randn(2, 3, 65, 65))[-1].sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.stem.to_stride2[0].weight.grad is not None
    assert net.training and net.cells[0].training


def test_more_frozen_stages_than_there_are():
    with pytest.raises(ValueError, match='frozen_stages is 8.*has 8 stages'):
        small(frozen_stages=8)


def test_initialisation_is_the_authors():
    """Uniform in +-1 / sqrt(fan in), depthwise kernels counting all channels.

    PyTorch counts one channel there.
    """
    network = backbone(filter_multiplier=32)
    torch.manual_seed(0)
    network.init_weights()
    depthwise = 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            area = module.kernel_size[0] ** 2
            bound = (module.in_channels * area) ** -0.5
            weight = module.weight.abs()
            assert 0.9 * bound < weight.max() <= bound
            # The standard deviation of a uniform distribution.
            assert module.weight.std().item() == pytest.approx(
                bound / 3**0.5, rel=0.1
            )
            depthwise += module.groups > 1
    # Seven separable convolutions per cell, each of two units.
    assert depthwise == 12 * 7 * 2
