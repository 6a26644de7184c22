"""The Cityscapes search on a folder tree with the real names."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmseg_autodeeplab.arch import Architecture

ROOT = Path(__file__).resolve().parents[2]


def make_cityscapes(root):
    """Two cities to train, one to validate; 128 x 256 pixels each."""
    rng = np.random.RandomState(0)
    cities = dict(train=('aachen', 'zurich'), val=('lindau',))
    for part, names in cities.items():
        for city in names:
            for frame in range(2):
                name = f'{city}_{frame:06d}_000019'
                image = root / 'leftImg8bit' / part / city
                label = root / 'gtFine' / part / city
                for folder in (image, label):
                    folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(
                    str(image / f'{name}_leftImg8bit.png'),
                    rng.randint(0, 255, (128, 256, 3), dtype=np.uint8),
                )
                ids = rng.randint(0, 19, (4, 8)).astype(np.uint8)
                ids[0, 0] = 255
                cv2.imwrite(
                    str(label / f'{name}_gtFine_labelTrainIds.png'),
                    cv2.resize(
                        ids, (256, 128), interpolation=cv2.INTER_NEAREST
                    ),
                )


@pytest.mark.run
def test_search_validate_decode_retrain(tmp_path, monkeypatch, run_tool):
    make_cityscapes(tmp_path / 'data' / 'cityscapes')
    monkeypatch.chdir(tmp_path)
    small = [
        # The machinery is the real one; the network and the run are small.
        'model.backbone.num_layers=4',
        'model.backbone.num_blocks=2',
        'model.backbone.filter_multiplier=2',
        'model.backbone.stem_channels=8',
        'model.decode_head.in_channels=[4,8,16,32]',
        'train_cfg.max_iters=4',
        'train_cfg.val_interval=4',
        'custom_hooks.0.begin=2',
        'default_hooks.checkpoint.interval=4',
        'default_hooks.logger.interval=1',
        'train_dataloader.num_workers=1',
        'val_dataloader.num_workers=1',
        'val_dataloader.dataset.pipeline.1.scale=(256,128)',
    ]
    config = ROOT / 'configs' / 'autodeeplab' / 'search_cityscapes.py'
    run_tool('train', config, '--cfg-options', *small)
    work_dir = tmp_path / 'work_dirs' / 'search_cityscapes'
    last = scalars(work_dir)
    assert last['arch_loss'] > 0 and 0 <= last['mIoU'] <= 100

    found = tmp_path / 'found'
    run_tool('decode', work_dir / 'iter_4.pth', '--out-dir', found)
    assert Architecture.load(found / 'architecture.json') == Architecture.load(
        work_dir / 'architecture.json'
    )

    run_tool(
        'train',
        found / 'retrain.py',
        '--cfg-options',
        'train_cfg.max_iters=1',
        'train_cfg.val_interval=1',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'train_dataloader.dataset.pipeline.3.crop_size=(97,97)',
        'model.data_preprocessor.size=(97,97)',
        'model.backbone.filter_multiplier=4',
        'model.decode_head.channels=8',
        'model.decode_head.in_channels='
        f'{in_channels(found / "architecture.json", 4)}',
        'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False',
        'val_dataloader.dataset.pipeline.1.scale=(256,128)',
    )
    assert 0 <= scalars(found / 'retrain')['mIoU'] <= 100


def scalars(work_dir):
    """The last value of everything that a run has logged."""
    values = {}
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    for line in file.read_text().splitlines():
        values.update(json.loads(line))
    return values


def in_channels(file, filter_multiplier):
    stages = Architecture.load(file).stages
    widths = [
        2 * filter_multiplier * 2**stage.level
        if stage.last_layer >= 0
        else 128
        for stage in (stages[0], stages[-1])
    ]
    return str(widths).replace(' ', '')
