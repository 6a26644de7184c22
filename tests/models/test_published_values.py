"""The derived network against what the authors' own code gives.

Their TensorFlow code (``hnasnet`` in tensorflow/models, research/deeplab) ran
in float32 with F = 4 on an image of 65 x 97 pixels, in evaluation. Weights and
image follow from formulas, so that mean, standard deviation and ten values of
each output, in ``published_values.json``, say what it computes.
"""

import json
import re
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_autodeeplab.arch import ZOO

HERE = Path(__file__).parent
EXPECTED = json.loads((HERE / 'published_values.json').read_text())
BASE = HERE.parents[1] / 'configs/_base_/models/autodeeplab.py'
# What the authors call our modules.
NAMES = {
    'backbone.stem.to_stride2.0': 'hnasnet/conv0',
    'backbone.stem.to_stride2.1': 'hnasnet/conv0_bn',
    'backbone.stem.to_stride2.2.1': 'hnasnet/conv1',
    'backbone.stem.to_stride2.2.2': 'hnasnet/conv1_bn',
    'backbone.stem.to_stride4.1': 'hnasnet/conv2',
    'backbone.stem.to_stride4.2': 'hnasnet/conv2_bn',
    'entry.1': '1x1',
    'entry.2': 'beginning_bn',
    'prev_entry.1': 'prev_1x1',
    'prev_entry.2': 'prev_bn',
    'decode_head.aspp.0': 'aspp0',
    'decode_head.aspp.1': 'aspp1',
    'decode_head.aspp.2': 'aspp2',
    'decode_head.aspp.3': 'aspp3',
    'decode_head.image_pool': 'image_pooling',
    'decode_head.project': 'concat_projection',
    'decode_head.low_level': 'decoder/feature_projection0',
    'decode_head.decoder.0': 'decoder/decoder_conv0/decoder_conv0_1',
    'decode_head.decoder.1': 'decoder/decoder_conv0/decoder_conv0_2',
    'decode_head.conv_seg': 'logits/semantic',
}
PARTS_OF_NORM = {
    'bias': 'beta',
    'weight': 'gamma',
    'running_mean': 'moving_mean',
    'running_var': 'moving_variance',
}


def operation_name(block, side, part):
    """The authors' name of a convolution or norm within a block."""
    primitive = ZOO['autodeeplab'].cell[block][side].op
    kernel = primitive[-3:]
    folder = f'comb_iter_{block}/{("left", "right")[side]}'
    if primitive.startswith('atrous'):
        return f'{folder}/{("atrous", "bn_atr")[part - 1]}_{kernel}'
    # ReLU, depthwise, pointwise, norm, and once more.
    time, layer = divmod(part, 4)
    unit = ('separable', 'separable', 'bn_sep')[layer - 1]
    suffix = ('/depthwise', '/pointwise', '')[layer - 1]
    return f'{folder}/{unit}_{kernel}_{time + 1}{suffix}'


def authors_name(key, shape):
    """The name of a variable of theirs for a key of our state dict."""
    module, part = key.rsplit('.', 1)
    module, _, inner = re.fullmatch(r'(.*?)(\.(conv|bn))?', module).groups()
    cell = re.fullmatch(r'backbone\.cells\.(\d+)\.(.*)', module)
    if cell is None:
        name = NAMES[module]
    else:
        operation = re.fullmatch(r'blocks\.(\d)\.(\d)\.(\d)', cell[2])
        name = (
            operation_name(*map(int, operation.groups()))
            if operation
            else NAMES[cell[2]]
        )
        name = f'hnasnet/cell_{cell[1]}/{name}'
    if module == 'decode_head.conv_seg':
        return f'{name}/{dict(weight="weights", bias="biases")[part]}'
    if len(shape) == 1:
        norm = 'BatchNorm/' if inner == 'bn' else ''
        return f'{name}/{norm}{PARTS_OF_NORM[part]}'
    of_unit = name.endswith(('depthwise', 'pointwise'))
    return f'{name}{"_" if of_unit else "/"}weights'


def formula(index, name, shape):
    """The values of the variable that is number ``index`` by its name."""
    n = np.arange(prod(shape), dtype=np.float64)
    if len(shape) == 4:
        m = n % 9973
        phase = 0.0137 * m**2 + 0.7 * m + index
        values = np.sqrt(2 / prod(shape[1:])) * np.cos(phase)
    else:
        mean, amplitude, frequency = {
            'gamma': (1, 0.3, 1),
            'beta': (0, 0.2, 2),
            'biases': (0, 0.2, 2),
            'moving_mean': (0, 0.2, 3),
            'moving_variance': (1, 0.5, 5),
        }[name.rsplit('/')[-1]]
        values = mean + amplitude * np.cos(index + frequency * n)
    return torch.from_numpy(values.reshape(shape))


def image():
    """(1, 3, 65, 97), already between -1 and 1."""
    c, y, x = np.ogrid[:3, :65, :97]
    waves = np.sin(0.13 * y + 0.29 * x * (c + 1) + 0.017 * x * y + c)
    return torch.from_numpy(waves[None])


@pytest.fixture(scope='module')
def outputs():
    """All outputs of our network, with the weights of the formula."""
    init_default_scope('mmseg')
    cfg = Config.fromfile(BASE).model
    cfg.backbone.filter_multiplier = 4
    cfg.decode_head.in_channels = [20, 40]
    # As runners do where there is one process.
    model = revert_sync_batchnorm(MODELS.build(cfg)).double().eval()
    state = {
        key: value
        for key, value in model.state_dict().items()
        if not key.endswith('num_batches_tracked')
    }
    names = {authors_name(key, v.shape): key for key, v in state.items()}
    assert len(names) == len(state) == 1370
    for index, name in enumerate(sorted(names)):
        value = state[names[name]]
        value.copy_(formula(index, name, value.shape))

    found = {}

    def keep(name):
        def hook(module, args, output):
            found[name] = output.clone()

        return hook

    modules = {
        f'cell_{i}': cell for i, cell in enumerate(model.backbone.cells)
    }
    modules['aspp'] = model.decode_head.project
    modules['decoder'] = model.decode_head.decoder
    for name, module in modules.items():
        module.register_forward_hook(keep(name))
    with torch.no_grad():
        found['stem2'], found['stem4'] = model.backbone.stem(image())
        features = model.backbone(image())
        found['feature'] = features[-1]
        found['logits'] = model.decode_head(features)
    return found


@pytest.mark.parametrize('name', EXPECTED)
def test_authors_output(outputs, name):
    expected, output = EXPECTED[name], outputs[name]
    assert list(output.shape) == expected['shape']
    values = output.flatten().numpy()
    samples = values[[k * (values.size - 1) // 9 for k in range(10)]]
    found = [*samples, values.mean(), values.std()]
    wanted = [*expected['samples'], expected['mean'], expected['std']]
    tolerance = 1e-5 * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)
