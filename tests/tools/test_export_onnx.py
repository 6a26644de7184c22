"""tools/deployment/export_onnx.py against PyTorch, at sizes it did not see."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from architectures import random_architecture
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_autodeeplab.arch import (
    AutoDeepLabArchitecture,
    TemplateSpace,
    get_architecture,
)

ROOT = Path(__file__).resolve().parents[2]
TOOL = 'deployment/export_onnx'
spec = importlib.util.spec_from_file_location(
    'export_onnx', ROOT / 'tools' / f'{TOOL}.py'
)
export_onnx = importlib.util.module_from_spec(spec)
spec.loader.exec_module(export_onnx)

# A decoder of templates, as published or drawn.
TEMPLATES = """
_base_ = ['{base}/template_mobilenet-v2.py']
model = dict(
    pretrained=None, decode_head=dict(arch={arch!r}, channels=8,
    num_classes=3))
"""

CLASSES = ('road', 'sky', 'car')

# The whole published network, but narrow.
DERIVED = """
_base_ = ['{base}']
model = dict(
    backbone={backbone},
    decode_head=dict(
        in_channels={channels}, channels=8, low_level_channels=4,
        dilations=(2, 4, 6), num_classes=3))
"""
# A stock model, shallow, without align_corners.
STOCK = """
model = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='ResNet', depth=18, stem_channels=4, base_channels=4,
        num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,)),
    decode_head=dict(
        type='FCNHead', in_channels=4, channels=4, num_convs=1,
        num_classes=3),
    test_cfg=dict(mode='whole'))
"""


def derived(folder, arch):
    file = folder / 'architecture.json'
    get_architecture(arch).dump(file)
    init_default_scope('mmseg')
    backbone = dict(
        type='AutoDeepLab',
        arch=str(file),
        filter_multiplier=4,
        stem_channels=8,
    )
    return DERIVED.format(
        base=ROOT / 'configs' / '_base_' / 'models' / 'autodeeplab.py',
        backbone=backbone,
        channels=MODELS.build(backbone).out_channels,
    )


def prepare(folder, text):
    """Write a config and a checkpoint; return them and the model."""
    config, weights = folder / 'config.py', folder / 'weights.pth'
    config.write_text(text)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    for module in model.modules():
        if hasattr(module, 'running_var'):  # as if it had been trained
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(
        dict(
            state_dict=model.state_dict(),
            meta=dict(dataset_meta=dict(classes=CLASSES)),
        ),
        weights,
    )
    return config, weights, export_onnx.revert_sync_batchnorm(model).eval()


def open_export(file):
    return onnxruntime.InferenceSession(
        file, providers=['CPUExecutionProvider']
    )


def relative_difference(session, model, batch, height, width):
    """Of ONNX Runtime to the network as mmseg tests it, in small steps."""
    images = torch.randn(batch, 3, height, width)
    with torch.no_grad():
        logits = F.interpolate(
            model.decode_head(model.backbone(images)),
            size=(height, width),
            mode='bilinear',
            align_corners=model.align_corners,
        ).numpy()
    (found,) = session.run(None, {'images': images.numpy()})
    assert found.shape == logits.shape == (batch, 3, height, width)
    return abs(found - logits).max() / np.ptp(logits)


@pytest.mark.parametrize('seed', [None, 0, 1])
def test_one_dynamic_export_is_right_at_any_size(tmp_path, run_tool, seed):
    """The published architecture and random ones of the searched space."""
    arch = 'autodeeplab'
    if seed is not None:
        arch = random_architecture(3, 7, seed)
    config, weights, model = prepare(tmp_path, derived(tmp_path, arch))
    run_tool(TOOL, config, weights, '--shape', 64, 96, '--dynamic')
    session = open_export(tmp_path / 'weights.onnx')
    for size in [(1, 97, 161), (1, 128, 128), (2, 65, 193)]:
        assert relative_difference(session, model, *size) < 1e-4, size


@pytest.mark.parametrize('arch', ['arch0', 'arch1', 2])
def test_networks_of_templates(tmp_path, run_tool, arch):
    """Published ones and one with global pooling and skip connections."""
    if arch == 2:
        drawn = TemplateSpace(3, 4).random(arch)
        used = {name for template in drawn.templates for name in template}
        assert {'global_average_pool', 'skip_connect'} <= used
        arch = str(tmp_path / 'architecture.json')
        drawn.dump(arch)
    text = TEMPLATES.format(base=ROOT / 'configs/_base_/models', arch=arch)
    config, weights, model = prepare(tmp_path, text)
    run_tool(TOOL, config, weights, '--shape', 64, 96, '--dynamic')
    session = open_export(tmp_path / 'weights.onnx')
    for size in [(1, 97, 161), (1, 64, 64), (2, 65, 193)]:
        assert relative_difference(session, model, *size) < 1e-4, size


def test_static_export_of_a_stock_model(tmp_path, run_tool, capsys):
    config, weights, model = prepare(tmp_path, STOCK)
    file = tmp_path / 'made' / 'stock.onnx'
    run_tool(
        *(TOOL, config, weights, '--shape', 33, 70, '--output-file', file),
        # Sliding windows are around the network, which is what is exported.
        *('--cfg-options', 'model.test_cfg.mode=slide'),
    )
    session = open_export(file)
    assert relative_difference(session, model, 1, 33, 70) < 1e-4
    with pytest.raises(Exception, match='invalid dimensions'):
        relative_difference(session, model, 1, 34, 70)
    printed = capsys.readouterr().out
    assert '1 x 3 x 33 x 70: largest difference' in printed
    assert f'Written: {file}' in printed


def test_images_of_four_channels(tmp_path, run_tool, capsys):
    """As many as the backbone takes, whether there are means or not."""
    text = STOCK.replace("'ResNet',", "'ResNet', in_channels=4,")
    config, weights, _ = prepare(tmp_path, text)
    run_tool(TOOL, config, weights, '--shape', 33, 65)
    (images,) = open_export(tmp_path / 'weights.onnx').get_inputs()
    assert images.shape == [1, 4, 33, 65]
    assert '1 x 4 x 33 x 65: largest difference' in capsys.readouterr().out


def test_it_says_how_images_become_inputs(tmp_path, run_tool, capsys):
    config, weights, _ = prepare(tmp_path, STOCK)
    config.write_text(
        STOCK
        + """
model['data_preprocessor'] = dict(
    type='SegDataPreProcessor', mean=[1.5, 2, 3], std=[4, 5, 6.25],
    bgr_to_rgb=True, size=(32, 32))
"""
    )
    run_tool(TOOL, config, weights, '--shape', 32, 32)
    file = tmp_path / 'weights.onnx'
    metadata = open_export(file).get_modelmeta().custom_metadata_map
    assert {k: json.loads(v) for k, v in metadata.items()} == dict(
        mean=[1.5, 2, 3],
        std=[4, 5, 6.25],
        bgr_to_rgb=True,
        classes=list(CLASSES),
    )
    assert 'mean: [1.5, 2, 3]\n' in capsys.readouterr().out
    # Nothing of the machine it was made on.
    content = file.read_bytes()
    assert str(ROOT).encode() not in content
    assert str(tmp_path).encode() not in content


@pytest.mark.parametrize(
    'error,accepted',
    [(5e-5, True), (2e-4, False), (np.nan, False)],
)
def test_an_export_that_differs_is_not_written(
    tmp_path, monkeypatch, run_tool, failure, error, accepted
):
    config, weights, _ = prepare(tmp_path, STOCK)
    run = onnxruntime.InferenceSession.run

    def run_wrong(self, *args):
        (logits,) = run(self, *args)
        logits[0, 1, 2, 3] += error * np.ptp(logits)
        return [logits]

    monkeypatch.setattr(onnxruntime.InferenceSession, 'run', run_wrong)
    before = sorted(os.listdir(tmp_path))
    args = (TOOL, config, weights, '--shape', 32, 32)
    if accepted:
        run_tool(*args)
    else:
        sentence = failure(*args)
        assert 'differs from PyTorch at 1 x 3 x 32 x 32' in sentence
        assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.filterwarnings('ignore')  # of tracing
def test_a_dynamic_export_is_compared_at_other_sizes(
    tmp_path, monkeypatch, failure, capsys
):
    """A size that the trace took for a constant is found."""
    config, weights, _ = prepare(tmp_path, STOCK)

    class Fixed(export_onnx.Network):
        def forward(self, images):
            logits = super().forward(images)
            if torch.jit.is_tracing():
                height, width = (int(n) for n in images.shape[2:])
                logits = F.interpolate(logits, size=(height, width))
            return logits

    build = export_onnx.build_network
    monkeypatch.setattr(export_onnx, 'Network', Fixed)
    network = build(
        Config.fromfile(config), weights, torch.load(weights)['state_dict']
    )
    with torch.no_grad():
        content = export_onnx.export(network, 3, 32, 40, True, 17, {})
        sizes = export_onnx.sizes_to_compare(3, 32, 40, True)
        with pytest.raises(ValueError, match='compared at 1 x 3 x 64 x 104'):
            export_onnx.verify(content, network, sizes)
    assert '1 x 3 x 32 x 40: largest difference' in capsys.readouterr().out


@pytest.mark.parametrize('height,width', [(33, 33), (96, 96), (769, 1025)])
def test_sizes_to_compare(height, width):
    sizes = export_onnx.sizes_to_compare
    given, larger, odd = sizes(4, height, width, True)
    assert given == (1, 4, height, width)
    assert larger[2] > height and larger[3] > width
    assert odd[:2] == (2, 4) and odd[2] % 2 == odd[3] % 2 == 1
    assert odd[2] != odd[3]
    assert sizes(4, height, width, False) == [given]


@pytest.mark.filterwarnings('ignore')  # of tracing
def test_a_trace_is_the_network(tmp_path):
    arch = AutoDeepLabArchitecture(
        get_architecture('autodeeplab').cell, (4, 8, 16, 8)
    )
    _, _, model = prepare(tmp_path, derived(tmp_path, arch))
    network = export_onnx.Network(model).eval()
    with torch.no_grad():
        traced = torch.jit.trace(
            network, torch.randn(1, 3, 65, 97), check_trace=False
        )
        images = torch.randn(1, 3, 65, 97)
        expected = model.encode_decode(images, [dict(img_shape=(65, 97))])
        torch.testing.assert_close(traced(images), expected)


def test_existing_files_are_kept(tmp_path, run_tool, failure):
    config, weights, _ = prepare(tmp_path, STOCK)
    file = tmp_path / 'weights.onnx'
    file.write_text('precious')
    args = (TOOL, config, weights, '--shape', 32, 32)
    assert 'weights.onnx exists already' in failure(*args)
    assert file.read_text() == 'precious'
    run_tool(*args, '--force')
    assert len(file.read_bytes()) > 1000


@pytest.mark.parametrize('library', ['onnx', 'onnxruntime'])
def test_missing_library(tmp_path, monkeypatch, failure, library):
    config, weights, _ = prepare(tmp_path, STOCK)
    monkeypatch.setitem(sys.modules, library, None)
    sentence = failure(TOOL, config, weights, '--shape', 32, 32)
    assert sentence.endswith('run pip install onnx onnxruntime')


@pytest.mark.parametrize(
    'args,sentence',
    [
        (['--shape', 0, 32], '--shape takes H W'),
        (['--shape', 32, 32, '--opset', 99], 'with opset 99: Unsupported'),
    ],
)
def test_what_cannot_be_exported(tmp_path, failure, capfd, args, sentence):
    config, weights, _ = prepare(tmp_path, STOCK)
    assert sentence in failure(TOOL, config, weights, *args)
    assert 'graph(' not in capfd.readouterr().out  # torch's own complaint
    assert sorted(os.listdir(tmp_path)) == ['config.py', 'weights.pth']


def test_weights_of_another_model(tmp_path, failure):
    config, weights, _ = prepare(tmp_path, STOCK)
    config.write_text(STOCK.replace('num_convs=1', 'num_convs=2'))
    sentence = failure(TOOL, config, weights, '--shape', 32, 32)
    assert f'{weights} does not fit the model of {config}' in sentence
    assert 'decode_head.convs.1.conv.weight' in sentence


def test_a_model_of_another_kind(tmp_path, failure):
    config, weights, _ = prepare(tmp_path, STOCK)
    config.write_text("model = dict(type='SegDataPreProcessor')")
    sentence = failure(TOOL, config, weights, '--shape', 32, 32)
    assert 'only an EncoderDecoder can be exported' in sentence


def test_an_operation_that_onnx_lacks(tmp_path, failure):
    text = STOCK.replace("'FCNHead'", "'PSPHead'").replace(
        'num_convs=1', 'pool_scales=(1, 3)'
    )
    config, weights, _ = prepare(tmp_path, text)
    sentence = failure(TOOL, config, weights, '--shape', 32, 32)
    assert 'cannot be exported at 32 x 32 with opset 17' in sentence
    assert 'adaptive_avg_pool2d' in sentence
