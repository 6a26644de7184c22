"""The head of a dense prediction cell.

``published_dpc.json`` has what the authors' TensorFlow code gave in float32
for 24 channels at 33 x 41 positions: shape, mean, standard deviation and ten
values of each output. Weights and inputs follow from formulas.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from test_published_values import formula
from tester import HeadTester
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmseg_autodeeplab.arch import ZOO, DPCSpace
from mmseg_autodeeplab.errors import UserError

POOLING_CELL = [
    dict(op='conv', kernel=1, input=-1),
    dict(op='pyramid_pooling', grid_size=[2, 2], input=-1),
    dict(op='pyramid_pooling', grid_size=[1, 1], input=0),
    dict(op='conv', kernel=3, rate=[3, 1], input=1),
    dict(op='pyramid_pooling', grid_size=[4, 2], input=-1),
]
CELLS = dict(published='dpc', pooling=dict(branches=POOLING_CELL))
EXPECTED = json.loads(
    Path(__file__).with_name('published_dpc.json').read_text()
)


def build(arch='dpc', in_channels=24, **kwargs):
    init_default_scope('mmseg')
    cfg = dict(channels=16, num_classes=3, align_corners=True)
    cfg.update(norm_cfg=dict(type='BN'))
    cfg.update(type='DPCHead', arch=arch, in_channels=in_channels, **kwargs)
    torch.manual_seed(0)
    return MODELS.build(cfg)


class TestWithoutDecoder(HeadTester):
    cfg = dict(
        type='DPCHead',
        arch=dict(branches=POOLING_CELL[:4]),
        in_channels=8,
        channels=4,
        num_classes=5,
        align_corners=True,
        norm_cfg=dict(type='BN'),
    )
    strides = (16,)
    base = 'dpc_mobilenet-v2.py'

    def inputs(self, batch, size, dtype=torch.float):
        torch.manual_seed(1)
        height, width = (-(-side // 16) for side in size)
        return [torch.randn(batch, 8, height, width, dtype=dtype)]


class TestWithDecoder(HeadTester):
    cfg = dict(
        TestWithoutDecoder.cfg,
        arch='dpc',
        in_channels=[6, 8],
        low_level_channels=3,
        output_stride=8,
    )
    strides = (4, 8)
    base = 'dpc_r101.py'


def authors_name(key):
    """The name of a variable of theirs for a key of our state dict."""
    module, part, value = key.rsplit('.', 2)
    parts = module.split('.')
    name = 'concat_projection'
    if parts[0] == 'branches':
        name = f'branch{parts[1]}'
        if len(parts) == 3:
            name += ('_depthwise', '_pointwise')[int(parts[2])]
    if part == 'conv':
        is_depthwise = name.endswith('depthwise')
        return f'{name}/{"depthwise_" if is_depthwise else ""}weights'
    names = dict(
        weight='gamma',
        bias='beta',
        running_mean='moving_mean',
        running_var='moving_variance',
    )
    return f'{name}/BatchNorm/{names[value]}'


@pytest.mark.parametrize('output_stride', [16, 8])
@pytest.mark.parametrize('cell', CELLS)
def test_authors_outputs(cell, output_stride):
    head = build(
        CELLS[cell],
        output_stride=output_stride,
        pooling='sliding',
        norm_cfg=dict(type='BN', eps=1e-5),
    )
    head = head.double().eval()
    state = {
        authors_name(key): value
        for key, value in head.state_dict().items()
        if 'num_batches' not in key and 'conv_seg' not in key
    }
    assert len(state) == (55 if cell == 'published' else 35)
    for index, name in enumerate(sorted(state)):
        state[name].copy_(formula(index, name, state[name].shape))
    c, y, x = np.ogrid[:24, :33, :41]
    waves = np.sin(0.13 * y + 0.29 * x * (c % 7 + 1) + 0.017 * x * y + c)

    found = {}
    modules = {f'branch{i}': m for i, m in enumerate(head.branches)}
    for name, module in dict(modules, out=head.project).items():
        module.register_forward_hook(
            lambda module, args, out, name=name: found.update({name: out})
        )
    with torch.no_grad():
        head([torch.from_numpy(waves[None])])
    expected = EXPECTED[f'dpc_{cell}_os{output_stride}']
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        assert list(found[name].shape) == wanted['shape']
        values = found[name].flatten().numpy()
        samples = values[[k * (values.size - 1) // 9 for k in range(10)]]
        ours = [*samples, values.mean(), values.std()]
        theirs = [*wanted['samples'], wanted['mean'], wanted['std']]
        tolerance = 1e-5 * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    'in_channels, separable, total, multiply_adds',
    [
        (2048, 814_080, 1_150_976, 6.83e9),
        (320, 356_160, 689_600, 2.99e9),
        (256, None, 672_512, None),
        (728, None, 798_536, None),
    ],
)
def test_published_sizes(in_channels, separable, total, multiply_adds):
    """Table 1 counts separable convolutions; all has norms, projection."""
    head = build(in_channels=in_channels, channels=256)
    parameters = dict(head.named_parameters())
    counts = {k: p.numel() for k, p in parameters.items()}
    own = sum(n for k, n in counts.items() if 'conv_seg' not in k)
    assert own == total
    if separable is None:
        return
    assert separable == sum(
        n
        for k, n in counts.items()
        if k.startswith('branches') and parameters[k].ndim == 4
    )
    counter = FlopCounterMode(display=False)
    branches = head.branches.to('meta').eval()
    outs = []
    feature = torch.empty(1, in_channels, 65, 129, device='meta')
    with torch.no_grad(), counter:
        for branch, module in zip(head.arch.branches, branches):
            read = feature if branch.input < 0 else outs[branch.input]
            outs.append(module(read))
    found = counter.get_total_flops() / 2
    assert found == pytest.approx(multiply_adds, rel=2e-3)


def test_grid_pooling_is_the_mean_of_each_cell():
    """Of cells that overlap where they do not divide the feature."""
    head = build(dict(branches=[dict(POOLING_CELL[4])]), in_channels=1).eval()
    pool = head.branches[0]
    x = torch.randn(2, 1, 9, 5)
    pooled = pool.pool(x)
    assert pooled.shape == (2, 1, 4, 2)
    for i in range(4):
        for j in range(2):
            rows = slice(9 * i // 4, -(-9 * (i + 1) // 4))
            columns = slice(5 * j // 2, -(-5 * (j + 1) // 2))
            torch.testing.assert_close(
                pooled[..., i, j], x[..., rows, columns].mean((2, 3))
            )
    expected = F.interpolate(
        pool.activate(pool.norm(pool.conv(pooled))),
        size=(9, 5),
        mode='bilinear',
        align_corners=True,
    )
    torch.testing.assert_close(pool(x), expected)


@pytest.mark.parametrize('pooling', ['grid', 'sliding'])
def test_both_poolings_of_one_cell_are_the_mean(pooling):
    head = build(
        dict(branches=[POOLING_CELL[2] | dict(input=-1)]),
        in_channels=2,
        pooling=pooling,
    )
    x = torch.randn(1, 2, 7, 6)
    mean = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(head.branches[0].pool(x), mean)


@pytest.mark.parametrize('seed', range(8))
def test_random_cells_train_at_odd_sizes(seed):
    """On features that are large enough for any grid."""
    head = build(DPCSpace(3).random(seed).content(), in_channels=4)
    head([torch.randn(2, 4, 9, 13)]).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())


def test_dropout_is_on_the_concatenation():
    """Of single values, ahead of the projection, and nowhere else."""
    head = build(dropout_ratio=0.5)
    seen = []
    head.dropout.register_forward_hook(
        lambda module, args, out: seen.append((args[0], out))
    )
    head([torch.randn(2, 24, 9, 9)])
    ((before, after),) = seen
    assert before.shape == (2, 5 * 16, 9, 9)
    kept = after != 0
    torch.testing.assert_close(after[kept], 2 * before[kept])
    assert not kept.all((2, 3)).any()
    drops = [m for m in head.modules() if isinstance(m, nn.Dropout)]
    assert drops == [head.dropout]


@torch.no_grad()
def test_authors_initialisation():
    head = build(in_channels=512, channels=256)
    head.init_weights()
    depthwise, pointwise = head.branches[0]
    assert depthwise.conv.weight.std() == pytest.approx(0.29, abs=0.02)
    assert depthwise.conv.weight.abs().max() <= 0.66
    assert pointwise.conv.weight.std() == pytest.approx(0.053, abs=0.005)
    bound = (6 / (5 * 256 + 256)) ** 0.5
    assert head.project.conv.weight.abs().max() <= bound
    assert head.project.conv.weight.std() == pytest.approx(
        bound / 3**0.5, rel=0.02
    )


@pytest.mark.parametrize(
    'changes, sentence',
    [
        (dict(output_stride=32), 'output_stride=32.*those of 16'),
        (dict(output_stride=0), 'output_stride=0'),
        (dict(pooling='paper'), "pooling='paper'.*'grid' or 'sliding'"),
        (dict(arch='autodeeplab'), 'name in the zoo .*dpc'),
        (dict(in_channels=[1, 2, 3]), r'in_channels=\[1, 2, 3\].*two of them'),
        (
            dict(arch=ZOO['autodeeplab'].content()),
            'the field .* is unknown|branches is missing',
        ),
    ],
)
def test_what_a_head_may_not_be(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        build(**changes)


@pytest.mark.parametrize('pooling', ['grid', 'sliding'])
def test_a_grid_that_is_larger_than_the_feature(pooling):
    cell = dict(branches=[dict(POOLING_CELL[4], grid_size=[4, 8])])
    head = build(cell, in_channels=2, pooling=pooling).eval()
    with pytest.raises(UserError, match='4 x 8 cells.*3 x 9 positions.*crops'):
        head([torch.randn(1, 2, 3, 9)])
