"""Damaged and altered checkpoints, wherever a tool loads one."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from tiny_config import write_config


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """A config, its data, and a checkpoint of its model."""
    folder = tmp_path_factory.mktemp('good')
    config = write_config(folder)
    init_default_scope('mmseg')
    weights = MODELS.build(Config.fromfile(config).model).state_dict()
    file = folder / 'good.pth'
    torch.save(dict(state_dict=weights, meta={}), file)
    return config, file


def truncated(good, file):
    file.write_bytes(good.read_bytes()[:-500])


def half(good, file):
    file.write_bytes(good.read_bytes()[: good.stat().st_size // 2])


def flipped(good, file):
    """A bit of a weight, which torch would load."""
    content = bytearray(good.read_bytes())
    weight = torch.load(good)['state_dict']['decode_head.conv_seg.weight']
    content[content.index(weight.numpy().tobytes()) + 1] ^= 1
    file.write_bytes(content)
    torch.load(file)


def text(good, file):
    file.write_text('<html>404</html>')


def empty(good, file):
    file.touch()


def a_list(good, file):
    torch.save([torch.zeros(3)], file)


def commands(config, file):
    return {
        'test': ('test', config, file, '--work-dir', 'work'),
        'load_from': ('train', config, '--cfg-options', f'load_from={file}'),
        'pretrained': (
            'train',
            config,
            '--cfg-options',
            'model.backbone.init_cfg.type=Pretrained',
            f'model.backbone.init_cfg.checkpoint={file}',
        ),
        'publish': ('model_converters/publish_model', file, 'out'),
        'decode': ('decode', file),
        'onnx': (
            'deployment/export_onnx',
            config,
            file,
            '--shape',
            '32',
            '32',
        ),
    }


@pytest.mark.parametrize(
    'damage', [truncated, half, flipped, text, empty, a_list]
)
@pytest.mark.parametrize(
    'command',
    [
        # MMEngine reads this one while it builds the model.
        pytest.param(name, marks=[pytest.mark.run] * (name == 'pretrained'))
        for name in commands(None, None)
    ],
)
def test_unreadable(tmp_path, monkeypatch, failure, good, command, damage):
    if command == 'onnx':
        pytest.importorskip('onnxruntime')
    if command == 'pretrained' and damage is a_list:
        pytest.skip('MMEngine itself takes what can be read')
    config, checkpoint = good
    file = tmp_path / 'bad.pth'
    damage(checkpoint, file)
    monkeypatch.chdir(tmp_path)
    error = failure(*commands(config, file)[command])
    assert error.startswith(f'Error: {file} ') and len(error) < 500
    found = {path.suffix for path in tmp_path.rglob('*') if path.is_file()}
    assert found <= {'.pth', '.log', '.py', ''}  # And `.lock`.
    assert [file] == list(tmp_path.rglob('*.pth'))


def alter(good, file, name, value):
    content = torch.load(good, weights_only=True)
    if value is None:
        del content['state_dict'][name]
    else:
        content['state_dict'][name] = value
    torch.save(content, file)


@pytest.mark.run
@pytest.mark.parametrize(
    'name, value, sentence',
    [
        (
            'decode_head.conv_seg.bias',
            None,
            'since it lacks 1 of its weights, decode_head.conv_seg.bias',
        ),
        ('decode_head.conv_seg.bias', torch.zeros(3), 'size mismatch'),
        ('decode_head.conv_seg.bias', 'zero', 'RuntimeError'),
        (3, torch.zeros(3), 'has no state_dict'),
    ],
)
def test_nothing_is_tested_with_random_weights(
    tmp_path, failure, good, name, value, sentence
):
    config, checkpoint = good
    file = tmp_path / 'altered.pth'
    alter(checkpoint, file, name, value)
    error = failure('test', config, file, '--work-dir', tmp_path / 'work')
    assert error.startswith(f'Error: {file} ') and sentence in error


@pytest.mark.run
@pytest.mark.parametrize('tta', [[], ['--tta']])
def test_what_a_model_does_not_need_is_no_matter(
    tmp_path, run_tool, good, tta
):
    config, checkpoint = good
    file = tmp_path / 'more.pth'
    alter(checkpoint, file, 'auxiliary_head.weight', torch.zeros(3))
    run_tool('test', config, file, '--work-dir', tmp_path / 'work', *tta)


def test_meta_of_a_checkpoint(tmp_path, failure, good):
    file = tmp_path / 'meta.pth'
    torch.save(dict(state_dict={}, meta=[1]), file)
    for command in ('publish', 'decode', 'onnx'):
        error = failure(*commands(good[0], file)[command])
        assert 'since its meta is no dict' in error


def test_a_list_without_images(tmp_path, failure, good):
    config, _ = good
    for content in ('', '\n \n'):
        (config.parent / 'data' / 'list.txt').write_text(content)
        error = failure(
            'train',
            config,
            '--work-dir',
            tmp_path,
            '--cfg-options',
            'val_dataloader.dataset.ann_file=list.txt',
        )
        assert error.endswith(
            'list.txt lists no image: check ann_file of val_dataloader.dataset'
        )
    assert list(tmp_path.iterdir()) == []
