import inspect
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_autodeeplab.models.complexity import (
    count_multiply_adds,
    image_channels,
)

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'autodeeplab'


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'fcn_r18.py'
    path.write_text("""
_base_ = ['mmseg::_base_/models/fcn_r50-d8.py',
          'mmseg::_base_/default_runtime.py']
model = dict(
    pretrained=None,
    backbone=dict(type='ResNet', depth=18),
    decode_head=dict(in_channels=512, channels=64),
    auxiliary_head=dict(in_channels=256, channels=32))
""")
    return path


@pytest.mark.parametrize('channels', [3, 4])
def test_counts_are_those_of_the_convolutions(
    config, run_tool, capsys, channels
):
    init_default_scope('mmseg')
    cfg = Config.fromfile(config)
    cfg.model.backbone.in_channels = channels
    model = MODELS.build(cfg.model)
    model = revert_sync_batchnorm(model).eval()
    expected = 0

    def count(conv, _, output):
        nonlocal expected
        expected += output.numel() * conv.weight[0].numel()

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, channels, 65, 97), mode='tensor')
    auxiliary = sum(p.numel() for p in model.auxiliary_head.parameters())
    total = sum(p.numel() for p in model.parameters())

    options = f'model.backbone.in_channels={channels}'
    if channels == 3:  # The default of all backbones.
        options = 'model.pretrained=None'
    run_tool(
        'analysis_tools/get_flops',
        *(config, '--shape', 65, 97, '--cfg-options', options),
    )
    output = capsys.readouterr().out
    assert f'1 x {channels} x 65 x 97' in output
    assert f'({total - auxiliary})' in output
    assert f'({auxiliary})' in output
    assert f'({expected})' in output and 'of convolutions only' in output


def test_large_image_and_overridden_config(config, run_tool, capsys):
    run_tool(
        'analysis_tools/get_flops',
        config,
        *('--cfg-options', 'model.auxiliary_head=None'),
    )
    output = capsys.readouterr().out
    assert '1 x 3 x 1025 x 2049' in output and 'Auxiliary' not in output


def test_wrong_shape_is_one_sentence(config, failure):
    assert '--shape takes H W' in failure(
        'analysis_tools/get_flops', config, '--shape', 1, 2, 3
    )


def test_grouped_convolution_by_hand():

    class Net(torch.nn.Conv2d):
        def forward(self, x, mode):
            return super().forward(x)

    net = Net(3, 6, 3, padding=1, groups=3)
    # 8 x 9 positions, 6 outputs of one input channel, 9 weights each.
    assert count_multiply_adds(net, 3, 8, 9) == 8 * 9 * 6 * 9


@pytest.mark.parametrize(
    'model, channels',
    [
        (dict(backbone=dict(type='ResNet')), 3),
        (dict(backbone=dict(type='MixVisionTransformer', in_channels=5)), 5),
        (
            dict(
                backbone=dict(
                    type='STDCContextPathNet',
                    backbone_cfg=dict(type='STDCNet', in_channels=4),
                )
            ),
            4,
        ),
        (
            dict(
                backbone=dict(
                    type='ICNet',
                    in_channels=4,
                    backbone_cfg=dict(type='ResNetV1c', in_channels=4),
                )
            ),
            4,
        ),
        (
            dict(
                backbone=dict(
                    type='FrozenBackbone',
                    backbone=dict(
                        type='STDCContextPathNet',
                        backbone_cfg=dict(type='STDCNet', in_channels=4),
                    ),
                )
            ),
            4,
        ),
        (dict(image_encoder=dict(type='VisionTransformer')), 3),
    ],
)
def test_channels_of_an_image(model, channels):
    assert image_channels(model) == channels


def test_all_backbones_have_three_channels_by_default():
    found = 0
    for cls in set(MODELS.module_dict.values()):
        parameter = inspect.signature(cls).parameters.get('in_channels')
        is_backbone = '.backbones.' in cls.__module__
        if is_backbone and parameter and parameter.default != parameter.empty:
            assert parameter.default == 3, cls
            found += 1
    assert found > 15


def test_a_published_network(run_tool, capsys):
    """With options; the others are counted by tests of the network."""
    run_tool(
        'analysis_tools/get_flops',
        CONFIGS / 'autodeeplab-s_8xb2-1500k_cityscapes-769x769.py',
        *('--shape', 1025, 2049, '--cfg-options'),
        'model.backbone.filter_multiplier=32',
        'model.decode_head.in_channels=[160,320]',
    )
    printed = capsys.readouterr().out
    assert '(21622451)' in printed
    assert 'Multiply-adds: 439.92 G (' in printed
