"""Configs of MMSegmentation's own zoo, with another backbone."""

import itertools
import math
from pathlib import Path

import mmseg
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import MODELS

FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'stock_heads'
ZOO = Path(mmseg.__file__).parent / '.mim' / 'configs'
SUFFIX = '4xb2-40k_cityscapes-512x1024.py'
STRIDES = {'pspnet': [4, 16, 8, 8], 'upernet': [4, 8, 16, 32]}

names = itertools.count()


def load(head):
    return Config.fromfile(FOLDER / f'{head}_autodeeplab-s_{SUFFIX}')


def leaves(value, key=''):
    """Flatten a config; MMEngine notes from where it read its parts."""
    if isinstance(value, dict):
        items = [(k, v) for k, v in value.items() if k != '_scope_']
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        yield key, value
        return
    for k, v in items:
        yield from leaves(v, f'{key}.{k}')


def test_every_config_is_tested():
    assert {path.name for path in FOLDER.glob('*.py')} == {
        f'{head}_autodeeplab-s_{SUFFIX}' for head in STRIDES
    }


@pytest.mark.parametrize(
    'head,stock', [('pspnet', 'pspnet_r50-d8'), ('upernet', 'upernet_r50')]
)
def test_only_backbone_and_channels_are_replaced(head, stock):
    zoo = Config.fromfile(ZOO / head / f'{stock}_{SUFFIX}')
    ours, theirs = (dict(leaves(cfg.to_dict())) for cfg in (load(head), zoo))
    changed = {
        '.'.join(key.split('.')[1:4])
        for key in {**ours, **theirs}
        if ours.get(key, ()) != theirs.get(key, ())
        and not key.startswith(('.model.backbone.', '.custom_imports.'))
    }
    assert changed == {
        'model.pretrained',
        'model.decode_head.in_channels',
        'model.auxiliary_head.in_channels',
    }


@pytest.mark.parametrize('head', STRIDES)
def test_heads_read_features_of_their_strides(head):
    cfg = load(head)
    init_default_scope('mmseg')
    backbone = MODELS.build(cfg.model.backbone)
    strides = [backbone.arch.path[layer] for layer in backbone.out_layers]
    assert strides == STRIDES[head]
    assert backbone.out_channels == [25 * s for s in STRIDES[head]]
    # The auxiliary head reads what comes before the last of the others.
    for part in (cfg.model.decode_head, cfg.model.auxiliary_head):
        index, channels = part.in_index, part.in_channels
        if isinstance(index, int):
            index, channels = [index], [channels]
        assert [backbone.out_channels[i] for i in index] == list(channels)
    last = backbone.out_layers[-1]
    assert backbone.out_layers[cfg.model.auxiliary_head.in_index] < last


@pytest.mark.parametrize('head', STRIDES)
def test_it_trains_validates_and_tests(tmp_path, head):
    cfg = load(head)
    cfg.work_dir = str(tmp_path / 'work')
    cfg.experiment_name = f'{head}_{next(names)}'
    cfg.merge_from_dict(
        {
            'model.data_preprocessor.size': (64, 64),
            'model.decode_head.num_classes': 6,
            'model.auxiliary_head.num_classes': 6,
            'train_cfg.max_iters': 2,
            'train_cfg.val_interval': 2,
            'default_hooks.logger.interval': 1,
        }
    )
    for part in ('train', 'val', 'test'):
        pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ]
        if part == 'train':
            pipeline.insert(2, dict(type='RandomCrop', crop_size=(64, 64)))
        loader = cfg[f'{part}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset = dict(
            type='ShapesDataset',
            split=part,
            num_images=2,
            size=(64, 80),
            data_root=str(tmp_path / 'shapes'),
            pipeline=pipeline,
        )
    runner = Runner.from_cfg(cfg)
    before = runner.model.backbone.stem.to_stride2[0].weight.clone()
    runner.train()
    after = runner.model.backbone.stem.to_stride2[0].weight
    assert not before.equal(after)
    history = runner.message_hub.log_scalars
    for loss in ('decode.loss_ce', 'aux.loss_ce'):
        values, _ = history[f'train/{loss}'].data
        assert len(values) == 2 and all(map(math.isfinite, values))
    assert 0 <= history['val/mIoU'].current() <= 100
    assert 0 <= runner.test()['mIoU'] <= 100
