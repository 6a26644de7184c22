"""The expected cost of one architecture is what its network counts."""

import pytest
import torch
from architectures import random_architecture
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch.utils.flop_counter import FlopCounterMode

from mmseg_autodeeplab.arch import (
    ZOO,
    AutoDeepLabArchitecture,
    Connection,
    cost_tables,
    expected_cost,
    one_hot,
)

init_default_scope('mmseg')
SAME_STATE = AutoDeepLabArchitecture(
    [
        [Connection(0, 'skip_connect'), Connection(0, 'atrous_conv_3x3')],
        [Connection(2, 'sep_conv_5x5'), Connection(2, 'sep_conv_5x5')],
    ],
    [8, 16, 16, 8],
)


def network(arch, channels=dict(filter_multiplier=4, stem_channels=8)):
    with torch.device('meta'):
        return MODELS.build(
            dict(type='AutoDeepLab', arch=arch, **channels)
        ).eval()


def multiply_adds(model, shape, in_channels=3):
    image = torch.empty(1, in_channels, *shape, device='meta')
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    counts = counter.get_flop_counts()['Global']
    assert list(counts) == [torch.ops.aten.convolution]
    return counts[torch.ops.aten.convolution] // 2


def cost(arch, quantity, **kwargs):
    tables = cost_tables(arch.num_blocks, arch.num_layers, quantity, **kwargs)
    return expected_cost(tables, *one_hot(arch))


@pytest.mark.parametrize(
    'arch,channels',
    [
        (ZOO['autodeeplab'], dict(filter_multiplier=20)),
        (random_architecture(5, 12, 0), dict(filter_multiplier=3)),
        (random_architecture(5, 12, 1), dict(filter_multiplier=8)),
        *(
            (
                random_architecture(2, 5, seed),
                dict(filter_multiplier=4, stem_channels=8),
            )
            for seed in range(6)
        ),
        # Second inputs that have the width already, of stem and of cells.
        (random_architecture(1, 5, 2), dict(filter_multiplier=32)),
        (
            random_architecture(4, 6, 3),
            dict(filter_multiplier=2, stem_channels=4, in_channels=1),
        ),
        (SAME_STATE, dict(filter_multiplier=2, stem_channels=6)),
    ],
)
def test_exactly_what_the_network_counts(arch, channels):
    model = network(arch, channels)
    parameters = sum(p.numel() for p in model.parameters())
    assert cost(arch, 'parameters', **channels) == parameters
    for shape in [(97, 161), (64, 96), (101, 130)]:
        assert cost(
            arch, 'multiply_adds', shape=shape, **channels
        ) == multiply_adds(model, shape, channels.get('in_channels', 3))


def test_the_published_backbone_at_the_default_shape():
    arch = ZOO['autodeeplab']
    model = network(arch, {})
    assert cost(arch, 'parameters') == 7_030_832
    assert cost(arch, 'multiply_adds') == multiply_adds(model, (1025, 2049))
