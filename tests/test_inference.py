"""mmseg.apis with our configs, from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.apis import MMSegInferencer, inference_model, init_model

from mmseg_autodeeplab.datasets import ShapesDataset

ROOT = Path(__file__).resolve().parents[1]
CONFIG = f"""
_base_ = [
    '{ROOT}/configs/_base_/models/autodeeplab.py',
    '{ROOT}/configs/_base_/datasets/shapes.py',
    '{ROOT}/configs/_base_/default_runtime.py',
    '{ROOT}/configs/_base_/schedules/retrain_40k.py',
]
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    # One step is to fill the running statistics.
    backbone=dict(
        filter_multiplier=2, stem_channels=4, norm_cfg=dict(momentum=1.0)),
    decode_head=dict(
        in_channels=[10, 20], channels=8, low_level_channels=4,
        num_classes=6, norm_cfg=dict(momentum=1.0)))
dataset = dict(data_root='DATA', num_images=2)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dataset)
val_dataloader = None
val_evaluator = None
val_cfg = None
train_cfg = dict(max_iters=1)
work_dir = 'WORK'
"""
META = ShapesDataset.METAINFO
pytestmark = pytest.mark.run


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Folder of a config, its checkpoint and an image, and the labels."""
    folder = tmp_path_factory.mktemp('trained')
    text = CONFIG.replace('DATA', str(folder / 'shapes'))
    (folder / 'small.py').write_text(
        text.replace('WORK', str(folder / 'work'))
    )
    runner = Runner.from_cfg(Config.fromfile(folder / 'small.py'))
    runner.train()
    # It has learned nothing; this way, it does not say the same everywhere.
    torch.nn.init.normal_(runner.model.decode_head.conv_seg.weight)
    runner.save_checkpoint(str(folder), 'small.pth')

    image = cv2.imread(str(folder / 'shapes/train/images/00000.png'))
    image = image[:65, :121]  # neither the size of the crop nor even
    cv2.imwrite(str(folder / 'image.png'), image)
    model = runner.model.eval()
    rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
    with torch.no_grad():
        logits = model((rgb[None].float() - 127.5) / 127.5)
        logits = torch.nn.functional.interpolate(
            logits, size=(65, 121), mode='bilinear', align_corners=True
        )
    labels = logits.argmax(1)[0].numpy()
    assert len(np.unique(labels)) > 1
    np.save(folder / 'labels.npy', labels)
    return folder


def test_init_model_and_inference_model(trained, tmp_path, monkeypatch):
    """A config by its absolute and its relative path, a file, an array."""
    monkeypatch.chdir(tmp_path)
    expected = np.load(trained / 'labels.npy')
    config, image = str(trained / 'small.py'), str(trained / 'image.png')
    for path in (config, os.path.relpath(config)):
        model = init_model(path, str(trained / 'small.pth'), device='cpu')
        for x in (image, cv2.imread(image)):
            labels = inference_model(model, x).pred_sem_seg.data
            assert labels.shape == (1, 65, 121)
            assert (labels[0].numpy() == expected).all()
    for key in ('classes', 'palette'):
        assert model.dataset_meta[key] == META[key]


@pytest.mark.parametrize('given', [True, False])
def test_inferencer(trained, tmp_path, given):
    """With a config, and with that which the checkpoint has."""
    config = str(trained / 'small.py') if given else None
    inferencer = MMSegInferencer(
        config, str(trained / 'small.pth'), device='cpu'
    )
    result = inferencer(str(trained / 'image.png'), out_dir=str(tmp_path))
    expected = np.load(trained / 'labels.npy')
    assert (result['predictions'] == expected).all()
    for key in ('classes', 'palette'):  # what it paints by
        assert inferencer.visualizer.dataset_meta[key] == META[key]
    (painted,) = (tmp_path / 'vis').iterdir()
    assert cv2.imread(str(painted)).shape == (65, 121, 3)
    (written,) = (tmp_path / 'pred').iterdir()
    labels = cv2.imread(str(written), cv2.IMREAD_UNCHANGED)
    assert (labels == expected).all()


def test_the_config_that_decode_writes(tmp_path, run_tool):
    search = Config.fromfile(ROOT / 'configs/autodeeplab/search_demo.py')
    rng = np.random.RandomState(0)
    torch.save(
        dict(
            meta=dict(cfg=search.pretty_text, iter=7),
            state_dict={
                'backbone.alphas': torch.tensor(rng.randn(5, 8)),
                'backbone.betas': torch.tensor(3 * rng.randn(6, 4, 3)),
            },
        ),
        tmp_path / 'iter_7.pth',
    )
    run_tool('decode', tmp_path / 'iter_7.pth')
    config = str(tmp_path / 'decoded/retrain.py')
    image = np.zeros((40, 50, 3), np.uint8)
    model = init_model(config, device='cpu')
    assert model.backbone.arch.num_layers == 6
    labels = inference_model(model, image).pred_sem_seg.data
    assert labels.shape == (1, 40, 50)
    inferencer = MMSegInferencer(config, device='cpu')
    assert inferencer(image)['predictions'].shape == (40, 50)


def test_the_example_of_the_readme(trained, tmp_path):
    """As a script of its own, with the imports that it has."""
    readme = (ROOT / 'README.md').read_text()
    block = readme.split('<!-- inference -->\n```python\n')[1].split('```')[0]
    for name in ('small.py', 'small.pth', 'image.png'):
        (tmp_path / name).symlink_to(trained / name)
    for placeholder, name in {
        'retrain.py': 'small.py',
        'iter_80000.pth': 'small.pth',
        'street.png': 'image.png',
    }.items():
        assert block.count(placeholder) == 1
        block = block.replace(placeholder, name)
    block += "\nimport numpy\nnumpy.save('labels.npy', labels)"
    subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', block],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        check=True,
    )
    labels = np.load(tmp_path / 'labels.npy')
    assert (labels == np.load(trained / 'labels.npy')).all()
