"""A primitive that is added: one row of the table, one builder."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import MODELS
from small_search import batch, model_config, search_config
from torch import nn
from torch.optim import SGD
from torch.utils.flop_counter import FlopCounterMode

from mmseg_autodeeplab.arch import (
    PRIMITIVES,
    Architecture,
    AutoDeepLabArchitecture,
    AutoDeepLabSpace,
    Conv,
    Primitive,
    cost_tables,
    decode,
    expected_cost,
    index_of,
    num_edges,
    one_hot,
)
from mmseg_autodeeplab.models.layers import ReLUConvNorm, fused_kinds
from mmseg_autodeeplab.models.layers.operations import BUILDERS
from mmseg_autodeeplab.visualization import (
    draw_alphas,
    draw_cell,
    drawing_files,
    save_drawings,
)

init_default_scope('mmseg')
NAME = 'conv_1x1'


def build_conv(primitive, channels, stride, norm_cfg, align_corners):
    return ReLUConvNorm(channels, channels, primitive.convs, norm_cfg, stride)


@pytest.fixture(autouse=True)
def conv_1x1(monkeypatch):
    """All that somebody writes who adds a plain convolution."""
    row = Primitive(NAME, 'conv', 1, 'conv 1×1', 'red', (Conv(1),))
    monkeypatch.setitem(PRIMITIVES, NAME, row)
    monkeypatch.setitem(BUILDERS, 'conv', build_conv)


def supernet(form, **kwargs):
    cfg = dict(model_config()['backbone'], form=form, num_blocks=2, **kwargs)
    torch.manual_seed(0)
    return MODELS.build(cfg)


def preferring(num_blocks=2, path=(4, 8, 16)):
    """An architecture that has it wherever it can."""
    block = [dict(input=i, op=NAME) for i in range(2)]
    return AutoDeepLabArchitecture([block] * num_blocks, path)


@pytest.mark.run
def test_searched(tmp_path):
    cfg = search_config(tmp_path)
    cfg.model.backbone.form = 'reference'
    runner = Runner.from_cfg(cfg)
    backbone = runner.model.backbone
    assert backbone.alphas.shape == (2, 9)
    before = backbone.alphas.detach().clone()
    runner.train()
    assert (backbone.alphas != before)[:, index_of(NAME)].all()
    found = Architecture.load(f'{cfg.work_dir}/architecture.json')
    assert found == backbone.architecture()


def test_the_supernet_that_has_it_decodes_to_it(tmp_path):
    net = supernet('reference')
    assert net.alphas.shape == (num_edges(2), 9)
    net.alphas.data[:, -1] = 5
    net.train()(torch.randn(2, 3, 64, 64))[0].mean().backward()
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert any(m.weight.shape == (2, 2, 1, 1) for m in convs)
    found = net.architecture()
    assert {c.op for block in found.cell for c in block} == {NAME}
    file = tmp_path / 'architecture.json'
    found.dump(file)
    assert Architecture.load(file) == found
    assert NAME in found.describe()


def test_the_space_has_it():
    cells = [AutoDeepLabSpace(3, 2).random(seed).cell for seed in range(50)]
    assert NAME in {c.op for cell in cells for block in cell for c in block}
    assert AutoDeepLabSpace(3, 1).count_cells() == (9 * 2) ** 2


def test_drawn(tmp_path):
    architecture = preferring()
    texts = [t.get_text() for t in draw_cell(architecture).axes[0].texts]
    assert texts.count('conv 1×1') == 4
    save_drawings(architecture, str(tmp_path))
    files = {str(p) for p in tmp_path.iterdir()}
    assert files == set(drawing_files(architecture, str(tmp_path)))
    rng = np.random.default_rng(0)
    labels = draw_alphas(rng.normal(size=(5, 9))).axes[0].get_xticklabels()
    assert 'conv\n1×1' in {text.get_text() for text in labels}


@pytest.mark.parametrize('path', [(4, 8, 16), (8, 4, 4), (8, 16, 32)])
def test_counted(path):
    architecture = preferring(path=path)
    widths = dict(filter_multiplier=4, stem_channels=8)
    with torch.device('meta'):
        net = MODELS.build(
            dict(type='AutoDeepLab', arch=architecture, **widths)
        )
        image = torch.empty(1, 3, 97, 161)

    def cost(quantity, **kwargs):
        tables = cost_tables(2, 3, quantity, **widths, **kwargs)
        return expected_cost(tables, *one_hot(architecture))

    assert cost('parameters') == sum(p.numel() for p in net.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(image)
    counted = counter.get_flop_counts()['Global'][torch.ops.aten.convolution]
    assert cost('multiply_adds', shape=(97, 161)) == counted // 2


def test_trained():
    """The derived network takes a step, and each of its weights moves."""
    cfg = Config(model_config())
    norm_cfg = dict(type='BN')
    cfg.backbone = dict(
        type='AutoDeepLab',
        arch=decode(np.eye(9)[[8] * 5], np.zeros((3, 4, 3))).content(),
        filter_multiplier=2,
        stem_channels=4,
        norm_cfg=norm_cfg,
    )
    cfg.decode_head = dict(
        type='AutoDeepLabHead',
        in_channels=[4, 4],
        channels=4,
        low_level_channels=2,
        dilations=(1, 2, 3),
        num_classes=6,
        norm_cfg=norm_cfg,
        align_corners=True,
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg).train()
    optimizer = SGD(model.parameters(), lr=0.1)
    before = [p.detach().clone() for p in model.backbone.parameters()]
    data = model.data_preprocessor(batch(), True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    optimizer.step()
    after = model.backbone.parameters()
    assert all((a != b).any() for a, b in zip(after, before))


def test_the_fused_form_names_the_form_that_it_needs():
    with pytest.raises(ValueError) as failure:
        supernet('fused')
    text = str(failure.value)
    assert "'conv_1x1'" in text and "form='reference'" in text
    assert '\n' not in text and text.endswith('.')


def conv_fused(edges, x, each, primitive, kernel):
    return nn.functional.conv2d(x, edges.convs[f'{primitive}_1'])


def test_what_the_fused_form_needs_stands_in_one_place(monkeypatch):
    """With a second one, behind it, that has no weights."""
    row = Primitive('min_pool_3x3', 'min_pool', 3, 'min pool 3×3', 'red')
    monkeypatch.setitem(PRIMITIVES, row.name, row)
    monkeypatch.setitem(BUILDERS, 'min_pool', lambda *_: MinPool())
    monkeypatch.setitem(fused_kinds.WEIGHTED, 'conv', conv_fused)
    monkeypatch.setitem(
        fused_kinds.SHARED, 'min_pool', lambda x, kernel: MinPool()(x)
    )
    norm_cfg = dict(type='BN', affine=True)
    reference, fused = (
        supernet(form, norm_cfg=norm_cfg).double()
        for form in ('reference', 'fused')
    )
    for p in reference.parameters():
        nn.init.normal_(p)
    fused.load_state_dict(reference.state_dict())
    assert fused.state_dict().keys() == reference.state_dict().keys()
    x = torch.randn(2, 3, 64, 64, dtype=torch.double)
    for expected, found in zip(reference(x), fused(x)):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        dict(fused.state_dict()), dict(reference.state_dict())
    )


class MinPool(nn.Module):
    def forward(self, x):
        return -nn.functional.max_pool2d(-x, 3, stride=1, padding=1)
