"""Mistakes in a config of ours, as the command line says them."""

import json
from pathlib import Path

import pytest

from mmseg_autodeeplab.datasets import ShapesDataset, SplitInfiniteSampler

pytestmark = pytest.mark.run
CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'autodeeplab'
S = CONFIGS / 'autodeeplab-s_8xb2-1500k_cityscapes-769x769.py'


@pytest.fixture
def demo(tmp_path):
    """Arguments of a search on a few generated scenes."""
    sets = [
        f'{part}_dataloader.dataset.{key}'
        for part in ('train', 'val')
        for key in (f'data_root={tmp_path / "shapes"}', 'num_images=4')
    ]
    return [
        CONFIGS / 'search_demo.py',
        '--work-dir',
        tmp_path / 'work',
        '--cfg-options',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        *sets,
    ]


@pytest.mark.parametrize(
    'option,sentence',
    [
        ('train_dataloader.dataset.num_images=1', 'part without an image'),
        ('train_dataloader.sampler.ratio=1.5', 'ratio between 0 and 1'),
        (
            'train_dataloader.dataset.pipeline.2.crop_size=(32,32)',
            'set crop_size to 33 or more',
        ),
        ('model.backbone.num_layers=2', 'needs num_layers >= 3'),
        (
            'model.backbone.filter_multiplier=16',
            '--cfg-options model.decode_head.in_channels=[32,64,128,256]',
        ),
        (
            'model.backbone.in_channels=4',
            'mean has 3 values, but model.backbone takes in_channels=4',
        ),
        (
            'model.decode_head.ignore_index=0',
            'pads labels with seg_pad_val=255, which is no class',
        ),
        (
            'train_dataloader.persistent_workers=True',
            'train_dataloader has persistent_workers=True, but no worker',
        ),
        (
            'model.decode_head.num_classes=19',
            'num_classes=19, but ShapesDataset has 6 classes',
        ),
        ('custom_hooks.0.begin=450', 'begin is 450, but the search ends'),
        (
            'val_dataloader=None',
            'has val_evaluator and val_cfg but no val_dataloader: give all',
        ),
    ],
)
def test_search(tmp_path, failure, demo, option, sentence):
    extra = []
    if 'crop_size' in option:  # the preprocessor would pad it
        extra = ['model.data_preprocessor.size=(32,32)']
    assert sentence in failure('train', *demo, option, *extra)
    assert not (tmp_path / 'work' / 'architecture.json').exists()


def test_a_bad_label_of_part_b_is_named(tmp_path, failure, demo):
    root = str(tmp_path / 'shapes')
    data = ShapesDataset('train', 4, data_root=root, hard=True)
    part_b = SplitInfiniteSampler(data, part='B', seed=0).part_indices
    labels = [data.get_data_info(i)['seg_map_path'] for i in part_b]
    for label in labels:
        Path(label).write_text('no image')
    small = ['train_dataloader.batch_size=1', 'model.backbone.num_layers=3']
    error = failure('train', *demo, *small, 'custom_hooks.0.begin=0')
    assert any(f'label {label} cannot be read' in error for label in labels)
    assert not (tmp_path / 'work' / 'architecture.json').exists()


@pytest.mark.parametrize(
    'content,sentence',
    [
        (None, "arch is 'autodeeplab-xxl', but must be a name in the zoo"),
        ('{', 'is not valid JSON'),
        ({'schema': 'darts'}, "schema is 'darts', but must be"),
        (
            {'cell': [[{'input': 0, 'op': 'none'}] * 2], 'path': [4]},
            'schema is missing',
        ),
    ],
)
def test_arch(tmp_path, monkeypatch, failure, content, sentence):
    arch = tmp_path / 'a.json'
    if content is None:
        arch = 'autodeeplab-xxl'
    else:
        arch.write_text(
            content if isinstance(content, str) else json.dumps(content)
        )
    (tmp_path / 'c').mkdir()
    monkeypatch.chdir(tmp_path)
    for folder in ('leftImg8bit', 'gtFine'):
        for part in ('train', 'val'):
            path = tmp_path / 'data' / 'cityscapes' / folder / part
            path.mkdir(parents=True)
            (path / 'a_leftImg8bit.png').touch()
    message = failure(
        'train', S, '--cfg-options', f'model.backbone.arch={arch}'
    )
    assert sentence in message
