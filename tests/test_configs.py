"""Every config in configs/ can be read and its model built."""

from pathlib import Path

import mmseg
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / 'configs' / 'autodeeplab').glob('*.py'))


@pytest.mark.parametrize('file', CONFIGS, ids=lambda file: file.stem)
def test_config(file):
    cfg = Config.fromfile(file)
    assert cfg.custom_imports.imports == ['mmseg_autodeeplab']
    assert cfg.randomness.seed is not None
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    # The channels of the head are those of the backbone.
    assert list(model.backbone.out_channels) == list(
        cfg.model.decode_head.in_channels
    )
    crop = tuple(cfg.model.data_preprocessor.size)
    crops = [
        tuple(t.crop_size)
        for t in cfg.train_dataloader.dataset.pipeline
        if t.type == 'RandomCrop'
    ]
    assert crops == [crop]


def config(name):
    return Config.fromfile(ROOT / 'configs' / 'autodeeplab' / f'{name}.py')


def test_the_search_of_the_paper():
    """Section 4.1, number by number."""
    cfg = config('search_cityscapes')
    backbone = cfg.model.backbone
    assert backbone.num_layers == 12
    assert backbone.num_blocks == 5
    assert backbone.filter_multiplier == 8
    assert backbone.norm_cfg.affine is False

    loader = cfg.train_dataloader
    assert loader.batch_size == 2
    assert loader.sampler.type == 'SplitInfiniteSampler'
    transforms = {t.type: t for t in loader.dataset.pipeline}
    assert transforms['Resize'].scale == (1024, 512)
    assert transforms['RandomCrop'].crop_size == (321, 321)

    # 40 epochs over half of the 2975 images, two at a time.
    iterations_per_epoch = -(-(2975 // 2 + 1) // 2)
    assert cfg.train_cfg.max_iters == 40 * iterations_per_epoch
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer == dict(
        type='SGD', lr=0.025, momentum=0.9, weight_decay=3e-4
    )
    (schedule,) = cfg.param_scheduler
    assert schedule.type == 'CosineAnnealingLR'
    assert schedule.eta_min == 0.001
    assert schedule.end == cfg.train_cfg.max_iters
    (hook,) = cfg.custom_hooks
    assert hook.begin == 20 * iterations_per_epoch
    assert hook.optimizer == dict(type='Adam', lr=0.003, weight_decay=0.001)


def test_the_retraining_of_the_paper():
    cfg = config('autodeeplab-s_8xb2-1500k_cityscapes-769x769')
    assert cfg.model.backbone.arch == 'autodeeplab'
    assert cfg.model.backbone.filter_multiplier == 20
    assert cfg.optim_wrapper.optimizer.lr == 0.05
    assert cfg.optim_wrapper.optimizer.weight_decay == 4e-5
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[0].end == 1500000
    assert cfg.param_scheduler[0].power == 0.9


def test_the_config_of_the_readme(tmp_path):
    """Search on your own dataset: a stock dataset and another sampler."""
    readme = (ROOT / 'README.md').read_text()
    block = readme.split('<!-- own-dataset -->\n```python\n')[1]
    folder = tmp_path / 'configs' / 'autodeeplab'
    folder.mkdir(parents=True)
    (tmp_path / 'configs' / '_base_').symlink_to(ROOT / 'configs' / '_base_')
    (folder / 'search_mine.py').write_text(block.split('```')[0])
    cfg = Config.fromfile(folder / 'search_mine.py')

    stock = Config.fromfile(
        Path(mmseg.__file__).parent / '.mim/configs/_base_/datasets/loveda.py'
    )
    assert cfg.train_dataloader.sampler.type == 'SplitInfiniteSampler'
    cfg.train_dataloader.pop('sampler')
    # MMEngine notes which library a base comes from.
    cfg.train_dataloader.dataset.pop('_scope_')
    stock.train_dataloader.pop('sampler')
    assert cfg.train_dataloader == stock.train_dataloader
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    assert model.num_classes == 7
    assert tuple(cfg.model.data_preprocessor.size) == stock.crop_size
