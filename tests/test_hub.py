"""Folders of the hub, by publish_model.py and from_pretrained."""

import json
import shutil
import socket
import sys

import numpy as np
import pytest
import torch
from architectures import SMALL
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmseg.apis import inference_model, init_model

import mmseg_autodeeplab
from mmseg_autodeeplab.errors import UserError

pytest.importorskip('huggingface_hub')
pytest.importorskip('safetensors')

TOOL = 'model_converters/publish_model'
CLASSES, PALETTE = ('road', 'sky', 'car'), [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
CONFIG = """
default_scope = 'mmseg'
norm_cfg = dict(type='SyncBN')
model = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='AutoDeepLab', arch='ARCH', filter_multiplier=4, stem_channels=8,
        norm_cfg=norm_cfg),
    decode_head=dict(
        type='AutoDeepLabHead', in_channels=[16, 32], channels=8,
        low_level_channels=4, num_classes=3, dilations=(1, 2, 3),
        norm_cfg=norm_cfg),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(65, 65), stride=(40, 40)))
data_preprocessor = dict(
    type='SegDataPreProcessor', mean=[10., 100., 200.], std=[50., 60., 70.],
    bgr_to_rgb=True, test_cfg=dict(size_divisor=32))
train_dataloader = dict(
    dataset=dict(type='RepeatDataset', times=2, dataset=dict(
        type='mmseg.CamVidDataset', data_root='data')))
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
"""
DPC = """
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', rgb_to_bgr=True),
    backbone=dict(type='ResNet', depth=18, base_channels=4, num_stages=2,
                  strides=(1, 2), dilations=(1, 1), out_indices=(0, 1),
                  norm_cfg=dict(type='BN'), stem_channels=4),
    decode_head=dict(
        type='DPCHead', arch='dpc', in_channels=8, channels=4, in_index=1,
        num_classes=3, norm_cfg=dict(type='BN')),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
"""


def trained(folder, text):
    """Config, checkpoint and model, as if it had been trained."""
    config, checkpoint = folder / 'config.py', folder / 'iter_2.pth'
    config.write_text(text)
    cfg = Config.fromfile(config)
    if cfg.get('data_preprocessor'):
        cfg.model.data_preprocessor = cfg.data_preprocessor
    torch.manual_seed(0)
    model = init_model(cfg, device='cpu')
    for module in model.modules():
        if hasattr(module, 'running_var'):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    scalars = {
        'val/mIoU': HistoryBuffer([50.0, 51.25], [1, 1]),
        'val/data_time': HistoryBuffer([1.0], [1]),
        'train/loss': HistoryBuffer([1.0], [1]),
    }
    checkpoint_content = dict(
        meta=dict(
            cfg=Config.fromfile(config).pretty_text,
            dataset_meta=dict(classes=CLASSES, palette=PALETTE),
        ),
        state_dict=model.state_dict(),
        message_hub=dict(log_scalars=scalars),
        optimizer={},
    )
    torch.save(checkpoint_content, checkpoint)
    return checkpoint, model


def arch_file(folder):
    file = folder / 'architecture.json'
    file.write_text(json.dumps(SMALL))
    return file


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        pytest.fail('the network was asked')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    text = CONFIG.replace('ARCH', str(arch_file(folder)))
    return trained(folder, text)


@pytest.fixture
def published(tmp_path, network, run_tool):
    run_tool(TOOL, network[0], tmp_path / 'net', '--format', 'hub')
    return tmp_path / 'net'


def difference(folder, model, image):
    """Of the logits of a folder, to what MMSegmentation gives."""
    expected = inference_model(model, image[..., ::-1].copy()).seg_logits.data
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = mmseg_autodeeplab.from_pretrained(folder)(images)
    assert logits.shape == (1, 3, *image.shape[:2])
    assert expected.abs().max() > 1e-3
    return (logits[0] - expected).abs().max() / expected.abs().max()


def image(height, width):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def test_logits_are_those_of_mmsegmentation(published, network, no_network):
    # Larger than the window, and padded to a multiple of 32.
    assert difference(published, network[1], image(90, 110)) < 1e-6


def test_a_dense_prediction_cell(tmp_path, run_tool, no_network):
    checkpoint, model = trained(tmp_path, DPC)
    run_tool(TOOL, checkpoint, tmp_path / 'net', '--format', 'hub')
    # The data set gives RGB, as this config says.
    picture = image(65, 70)
    assert difference(tmp_path / 'net', model, picture) > 1e-3
    expected = inference_model(model, picture).seg_logits.data
    network = mmseg_autodeeplab.from_pretrained(tmp_path / 'net')
    logits = network(torch.from_numpy(picture).permute(2, 0, 1)[None])
    torch.testing.assert_close(logits[0], expected, rtol=1e-6, atol=1e-6)
    config = json.loads((tmp_path / 'net/config.json').read_text())
    assert len(config['model']['decode_head']['arch']['branches']) == 5


def test_it_trains_and_is_saved_again(published, tmp_path):
    network = mmseg_autodeeplab.from_pretrained(published)
    assert not network.training
    assert network.dataset_meta == dict(classes=list(CLASSES), palette=PALETTE)
    images = torch.rand(2, 3, 65, 65) * 255
    network.train()(images).square().mean().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= parameter.grad
    network.save_pretrained(tmp_path / 'again')
    again = mmseg_autodeeplab.from_pretrained(tmp_path / 'again')
    assert torch.equal(again(images), network.eval()(images))


def test_the_folder_says_what_it_is(published):
    from huggingface_hub import ModelCard

    assert sorted(file.name for file in published.iterdir()) == [
        'README.md',
        'config.json',
        'model.safetensors',
    ]
    config = json.loads((published / 'config.json').read_text())
    # The content, not the name of a file on this machine.
    assert config['model']['backbone']['arch'] == {
        key: SMALL[key] for key in ('cell', 'path')
    }
    card = ModelCard.load(published / 'README.md')
    data = card.data
    assert (data.license, data.pipeline_tag, data.datasets) == (
        *('apache-2.0', 'image-segmentation'),
        ['camvid'],
    )
    assert data.library_name == 'mmseg_autodeeplab'
    assert 'semantic-segmentation' in data.tags
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ('mIoU', 51.25)
    assert result.dataset_name == 'camvid'
    assert 'road, sky, car' in card.text


def sentence(folder):
    with pytest.raises(UserError) as error:
        mmseg_autodeeplab.from_pretrained(folder)
    assert '\n' not in str(error.value)
    assert 'write it again, or give another one' in str(error.value)
    return str(error.value)


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[-5] ^= 64
    file.write_bytes(content)


@pytest.mark.parametrize(
    'damage, found',
    [
        (shutil.rmtree, 'No such file'),
        (lambda x: (x / 'config.json').unlink(), 'No such file'),
        (lambda x: (x / 'model.safetensors').unlink(), 'No such file'),
        (lambda x: (x / 'config.json').write_text('{'), 'JSONDecodeError'),
        (lambda x: (x / 'config.json').write_text('[]'), 'has no model'),
        (
            lambda x: (x / 'config.json').write_text('{"hidden_size": 8}'),
            'has no model',
        ),
        (
            lambda x: flip_a_bit(x / 'model.safetensors'),
            'not what was written',
        ),
    ],
)
def test_a_damaged_or_foreign_folder(published, no_network, damage, found):
    damage(published)
    assert found in sentence(published)


def edited(folder, edit):
    config = json.loads((folder / 'config.json').read_text())
    edit(config)
    (folder / 'config.json').write_text(json.dumps(config))
    return sentence(folder)


def test_weights_of_another_network(published):
    def edit(config):
        config['model']['backbone']['filter_multiplier'] = 8

    assert 'size mismatch' in edited(published, edit)


def test_weights_that_are_not_there(published):
    from safetensors.torch import load_file, save_file

    weights = load_file(published / 'model.safetensors')
    weights.popitem()
    save_file(weights, published / 'model.safetensors')
    # As a user's own would be.
    assert 'issing key' in edited(published, lambda x: x.pop('sha256'))


@pytest.mark.parametrize('name', ['subprocess.run', 'AutoSegmentor'])
def test_nothing_is_imported_by_a_name(published, name):
    def edit(config):
        config['model']['backbone']['type'] = name

    assert 'which is not known here' in edited(published, edit)


def test_what_is_there_stays(network, tmp_path, failure):
    (tmp_path / 'net').mkdir()
    (tmp_path / 'net/mine').write_text('x')
    out = (TOOL, network[0], tmp_path / 'net', '--format', 'hub')
    assert 'exists already' in failure(*out)
    assert [x.name for x in tmp_path.rglob('*')] == ['net', 'mine']


def test_what_cannot_be_published(network, tmp_path, failure):
    content = torch.load(network[0], weights_only=False)
    file, out = tmp_path / 'x.pth', tmp_path / 'net'

    def refused():
        torch.save(content, file)
        found = failure(TOOL, file, out, '--format', 'hub')
        assert [x.name for x in tmp_path.iterdir()] == ['x.pth']
        return found

    weights = content['state_dict']
    content['state_dict'] = dict(list(weights.items())[1:])
    assert 'do not fit the model' in refused()
    content['state_dict'] = weights
    content['meta']['cfg'] = 'import os'
    assert 'read as data and never run' in refused()
    content['meta']['cfg'] = 'x = 1'
    assert 'has no model' in refused()


def test_without_huggingface_hub(monkeypatch, published):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    monkeypatch.delitem(sys.modules, 'mmseg_autodeeplab.hub', raising=False)
    monkeypatch.delattr(mmseg_autodeeplab, 'hub', raising=False)
    with pytest.raises(UserError, match='pip install huggingface_hub'):
        mmseg_autodeeplab.from_pretrained(published)
