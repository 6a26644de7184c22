from pathlib import Path

import pytest

import mmseg_autodeeplab  # noqa: F401  # isort: skip
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmseg.registry import METRICS, TRANSFORMS

import mmseg_autodeeplab.datasets  # noqa: F401

BASES = Path(__file__).parents[2] / 'configs/_base_/datasets'


@pytest.mark.parametrize('name', ['camvid', 'shapes'])
def test_base_configs_name_what_exists(name):
    cfg = Config.fromfile(BASES / f'{name}.py')
    assert not {'custom_imports', 'default_scope'} & set(cfg)
    with DefaultScope.overwrite_default_scope('mmseg'):
        for pipeline in (
            cfg.train_pipeline,
            cfg.test_pipeline,
            cfg.tta_pipeline,
        ):
            for transform in pipeline:
                TRANSFORMS.build(transform)
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            METRICS.build(evaluator)
    assert cfg.train_dataloader.sampler.type == 'InfiniteSampler'
    for loader in (
        cfg.train_dataloader,
        cfg.val_dataloader,
        cfg.test_dataloader,
    ):
        assert loader.num_workers == 2 and loader.persistent_workers


def test_shapes_loaders_yield_batches(tmp_path):
    cfg = Config.fromfile(BASES / 'shapes.py')
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    shapes = []
    with DefaultScope.overwrite_default_scope('mmseg'):
        for loader in loaders:
            loader.update(num_workers=0, persistent_workers=False)
            loader.dataset.update(data_root=str(tmp_path), num_images=10)
            batch = next(iter(Runner.build_dataloader(loader, seed=0)))
            for image, sample in zip(batch['inputs'], batch['data_samples']):
                assert sample.gt_sem_seg.shape == image.shape[1:]
            shapes.append((len(batch['inputs']), *batch['inputs'][0].shape))
    assert shapes == [(8, 3, 96, 96), (1, 3, 96, 128), (1, 3, 96, 128)]


def test_search_splits_one_data_set_by_two_loaders(tmp_path):
    cfg = Config.fromfile(BASES / 'shapes.py')
    loader = cfg.train_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    loader.dataset.update(data_root=str(tmp_path), num_images=21)
    seen = []
    with DefaultScope.overwrite_default_scope('mmseg'):
        for part in 'AB':
            loader.sampler = dict(type='SplitInfiniteSampler', part=part)
            batches = iter(Runner.build_dataloader(loader, seed=0))
            seen.append(
                {
                    sample.img_path
                    for _ in range(3)
                    for sample in next(batches)['data_samples']
                }
            )
    assert not seen[0] & seen[1] and len(seen[0] | seen[1]) == 21
