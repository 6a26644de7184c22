"""Configs as they are, on data, sizes and schedules that take seconds."""

import copy
import functools
import inspect
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from mmengine import fileio
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS

FOLDER = Path(__file__).resolve().parents[1] / 'configs'
CONFIGS = {
    f'{file.parent.name}/{file.stem}': file
    for file in sorted(FOLDER.rglob('*.py'))
    if '_base_' not in file.parts
}
PARTS = ('train', 'val', 'test')
IMAGE_SIZE = (72, 96)
CROP_SIZE = (64, 64)


load = functools.cache(fileio.load)


@functools.cache
def _read(file):
    # For each base of mmseg, MMEngine reads the index of all of its configs.
    with mock.patch('mmengine.config.utils.load', load):
        return Config.fromfile(file)


def read(file):
    """A config, which the caller may change; each is read once."""
    return copy.deepcopy(_read(file))


def innermost(dataset):
    """Yield the datasets within wrappers."""
    if 'datasets' in dataset:
        for inner in dataset['datasets']:
            yield from innermost(inner)
    elif 'dataset' in dataset:
        yield from innermost(dataset['dataset'])
    else:
        yield dataset


def class_of(dataset):
    """The class of a dataset config."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.get(dataset['type'])


def heads(model):
    """The configs of all heads of a model."""
    return [
        model[name]
        for name in ('decode_head', 'auxiliary_head')
        if model.get(name)
    ]


def make_data(dataset, root, rng):
    """Write two images and labels where a dataset config looks for them."""
    cls = class_of(dataset)
    num_classes = len(cls.METAINFO['classes'])
    parameters = inspect.signature(cls).parameters
    if getattr(cls, 'generates_data', False):
        dataset.update(num_images=4)
        return
    suffix = {
        key: dataset.get(key, parameters[key].default)
        for key in ('img_suffix', 'seg_map_suffix')
    }
    # Where 0 is "no class", labels go from 1 on.
    shift = int(dataset['type'] == 'ADE20KDataset')
    folders = [
        root / dataset['data_root'] / dataset['data_prefix'][key]
        for key in ('img_path', 'seg_map_path')
    ]
    names = ['city/a', 'city/b'] if 'Cityscapes' in dataset['type'] else 'ab'
    for name in names:
        image = rng.randint(0, 256, (*IMAGE_SIZE, 3), dtype=np.uint8)
        label = rng.randint(0, num_classes, (6, 8)) + shift
        label = np.kron(label, np.ones((12, 12)))
        for folder, end, pixels in zip(
            folders, suffix.values(), (image, label)
        ):
            file = folder / f'{name}{end}'
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), pixels.astype(np.uint8))
    if dataset.get('ann_file'):
        ann_file = root / dataset['data_root'] / dataset['ann_file']
        ann_file.parent.mkdir(parents=True, exist_ok=True)
        ann_file.write_text('\n'.join(names))


def shrink(pipeline):
    """Make every size in a pipeline small, in place."""
    for transform in pipeline:
        if isinstance(transform, list):
            shrink(transform)
            continue
        if 'crop_size' in transform:
            transform.crop_size = CROP_SIZE
        if 'scale' in transform:
            transform.scale = IMAGE_SIZE[::-1]
        shrink(transform.get('transforms', []))


def forget_weights(model):
    """Ask for no weights that are downloaded or trained before, in place."""
    if 'pretrained' in model:
        model.pretrained = None if model.type != 'TIMMBackbone' else False
    if (model.get('init_cfg') or {}).get('type') == 'Pretrained':
        del model['init_cfg']
    if 'backbone' in model:
        forget_weights(model.backbone)


def narrow(model):
    """Make a network of ours narrow, and a supernet short, in place."""
    backbone = model.backbone
    if 'filter_multiplier' not in backbone:
        return
    factor = backbone.filter_multiplier // 2
    backbone.update(filter_multiplier=2, stem_channels=4)
    if 'num_layers' in backbone:
        backbone.num_layers = 4
    for head in heads(model):
        if isinstance(head.in_channels, int):
            head.in_channels //= factor
        else:
            head.in_channels = [c // factor for c in head.in_channels]
        if 'channels' in head:
            head.channels = 16


def miniature(file, folder):
    """Read a config, and make its data, network, sizes and schedule small.

    Its paths are relative to ``folder``, where the run has to take place.
    """
    rng = np.random.RandomState(0)
    cfg = read(file)
    for part in PARTS:
        loader = cfg[f'{part}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.batch_size = 1 if part != 'train' else 2
        for dataset in innermost(loader.dataset):
            make_data(dataset, folder, rng)
            shrink(dataset.pipeline)
    narrow(cfg.model)
    forget_weights(cfg.model)
    cfg.model.data_preprocessor.size = CROP_SIZE
    cfg.train_cfg.update(max_iters=1, val_interval=1)
    for hook in cfg.get('custom_hooks', []):
        if hook['type'] == 'ArchSearchHook':
            hook['begin'] = 0
    cfg.default_hooks.checkpoint = None
    cfg.default_hooks.logger.interval = 1
    cfg.update(load_from=None, work_dir=str(folder), visualizer=None)
    cfg.experiment_name = f'{folder.name}-{file.stem}'
    return cfg
