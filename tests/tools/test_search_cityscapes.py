"""The Cityscapes search on a folder tree with the real names."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

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


def run(tmp_path, *command):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', *map(str, command)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_search_validate_decode_retrain(tmp_path):
    make_cityscapes(tmp_path / 'data' / 'cityscapes')
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
    done = run(
        tmp_path, ROOT / 'tools' / 'train.py', config, '--cfg-options', *small
    )
    assert done.returncode == 0, done.stderr[-3000:]
    log = done.stdout + done.stderr
    assert 'arch_loss' in log and 'mIoU: ' in log

    work_dir = tmp_path / 'work_dirs' / 'search_cityscapes'
    Architecture.load(work_dir / 'architecture.json')
    done = run(
        tmp_path,
        ROOT / 'tools' / 'decode.py',
        work_dir.relative_to(tmp_path) / 'iter_4.pth',
        '--out-dir',
        'found',
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'python tools/train.py found/retrain.py' in done.stdout
    assert Architecture.load(
        tmp_path / 'found' / 'architecture.json'
    ) == Architecture.load(work_dir / 'architecture.json')

    done = run(
        tmp_path,
        ROOT / 'tools' / 'train.py',
        'found/retrain.py',
        '--cfg-options',
        'train_cfg.max_iters=1',
        'train_cfg.val_interval=1',
        'train_dataloader.num_workers=1',
        'train_dataloader.dataset.pipeline.3.crop_size=(97,97)',
        'model.data_preprocessor.size=(97,97)',
        'model.backbone.filter_multiplier=4',
        'model.decode_head.channels=8',
        'model.decode_head.in_channels='
        f'{in_channels(tmp_path / "found" / "architecture.json", 4)}',
        'val_dataloader.num_workers=1',
        'val_dataloader.dataset.pipeline.1.scale=(256,128)',
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'mIoU: ' in done.stdout + done.stderr


def in_channels(file, filter_multiplier):
    stages = Architecture.load(file).stages
    widths = [
        2 * filter_multiplier * 2**stage.level
        if stage.last_layer >= 0
        else 128
        for stage in (stages[0], stages[-1])
    ]
    return str(widths).replace(' ', '')
