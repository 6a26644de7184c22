from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_autodeeplab.models.complexity import count_multiply_adds

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


def test_counts_are_those_of_the_convolutions(config, run_tool, capsys):
    init_default_scope('mmseg')
    model = MODELS.build(Config.fromfile(config).model)
    model = revert_sync_batchnorm(model).eval()
    expected = 0

    def count(conv, _, output):
        nonlocal expected
        expected += output.numel() * conv.weight[0].numel()

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, 3, 65, 97), mode='tensor')
    auxiliary = sum(p.numel() for p in model.auxiliary_head.parameters())
    total = sum(p.numel() for p in model.parameters())

    run_tool('analysis_tools/get_flops', config, '--shape', 65, 97)
    output = capsys.readouterr().out
    assert '1 x 3 x 65 x 97' in output
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
    assert count_multiply_adds(net, 8, 9) == 8 * 9 * 6 * 9


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
