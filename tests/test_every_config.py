"""Every config under configs/ trains and tests, on a miniature of its data.

A config is tested by being there. The network and the pipelines are its own;
images are small, and the run is one iteration, one validation, one test.
"""

import inspect
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import mmseg_autodeeplab  # noqa: F401  # isort: skip
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmseg.registry import DATASETS

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = [
    file
    for file in sorted((ROOT / 'configs').rglob('*.py'))
    if '_base_' not in file.parts
]
IMAGE_SIZE = (72, 96)
CROP_SIZE = (64, 64)


def test_there_are_configs():
    assert len(CONFIGS) > 40


def innermost(dataset):
    """Yield the datasets within wrappers."""
    if 'datasets' in dataset:
        for inner in dataset['datasets']:
            yield from innermost(inner)
    elif 'dataset' in dataset:
        yield from innermost(dataset['dataset'])
    else:
        yield dataset


def make_miniature(dataset, root, rng):
    """Write two images and labels where a dataset config looks for them.

    Returns:
        int: How many classes the labels have.
    """
    cls = DATASETS.get(dataset['type'])
    num_classes = len(cls.METAINFO['classes'])
    parameters = inspect.signature(cls).parameters
    if getattr(cls, 'generates_data', False):
        dataset.update(num_images=4)
        return num_classes
    suffix = {
        key: dataset.get(key, parameters[key].default)
        for key in ('img_suffix', 'seg_map_suffix')
    }
    # Where 0 is "no class", labels go from 1 on.
    shift = int(cls is DATASETS.get('ADE20KDataset'))
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
    return num_classes


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


def on_miniature(file, tmp_path):
    """Read a config and make its data, sizes and schedule small."""
    rng = np.random.RandomState(0)
    cfg = Config.fromfile(file)
    with DefaultScope.overwrite_default_scope('mmseg'):
        classes = {
            make_miniature(dataset, tmp_path, rng)
            for part in ('train', 'val', 'test')
            for dataset in innermost(cfg[f'{part}_dataloader'].dataset)
        }
    # The head has the classes of the data.
    assert classes == {cfg.model.decode_head.num_classes}

    for part in ('train', 'val', 'test'):
        loader = cfg[f'{part}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.batch_size = 1 if part != 'train' else 2
        for dataset in innermost(loader.dataset):
            shrink(dataset.pipeline)
    cfg.model.data_preprocessor.size = CROP_SIZE
    cfg.train_cfg.update(max_iters=1, val_interval=1)
    for hook in cfg.get('custom_hooks', []):
        if hook['type'] == 'ArchSearchHook':
            hook['begin'] = 0
    cfg.default_hooks.checkpoint = None
    cfg.default_hooks.logger.interval = 1
    cfg.update(load_from=None, work_dir=str(tmp_path), visualizer=None)
    cfg.experiment_name = f'{tmp_path.name}-{file.stem}'
    return cfg


@pytest.mark.parametrize(
    'file', CONFIGS, ids=lambda file: f'{file.parent.name}/{file.stem}'
)
def test_config_trains_and_tests(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = Runner.from_cfg(on_miniature(file, tmp_path))
    before = runner.model.decode_head.conv_seg
    before = [p.detach().clone() for p in before.parameters()]
    runner.train()
    after = runner.model.decode_head.conv_seg.parameters()
    assert not all(torch.equal(*pair) for pair in zip(before, after))
    metrics = runner.test()
    assert 0 <= metrics['mIoU'] <= 100


@pytest.mark.parametrize(
    'name',
    [
        'autodeeplab/autodeeplab-s_4xb4-80k_ade20k-513x513',
        'autodeeplab/autodeeplab-s_4xb4-80k_voc12aug-513x513',
        'autodeeplab/autodeeplab-s_8xb2-80k_cityscapes-769x769',
        'camvid/autodeeplab-s_1xb4-600i_camvid-128x128',
    ],
)
def test_multi_scale_and_flip(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = on_miniature(ROOT / 'configs' / f'{name}.py', tmp_path)
    shrink_ratios = cfg.tta_pipeline[-1].transforms[0]
    assert len(shrink_ratios) == 6
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    for resize in shrink_ratios:
        # ADE20K's are sizes, the others' are factors.
        if 'scale' in resize:
            resize.scale = tuple(side // 6 for side in resize.scale)
    cfg.model = dict(cfg.tta_model, module=cfg.model)
    runner = Runner.from_cfg(cfg)
    sizes = []
    network = runner.model.module.backbone
    network.register_forward_pre_hook(
        lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:]))
    )
    metrics = runner.test()
    assert 0 <= metrics['mIoU'] <= 100
    # Each scale once as it is and once flipped.
    images = len(runner.test_dataloader.dataset)
    assert len(set(sizes)) == 6
    assert all(sizes.count(size) == 2 * images for size in set(sizes))
