"""A search of a user's own, by the five commands, as one calls them."""

import json
import shlex

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

# Four channels, two classes of one logit: new-style, by classes alone.
BASE = """
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import DefaultSampler
from mmseg.datasets import BaseSegDataset, LoadAnnotations, PackSegInputs
from mmseg.evaluation import IoUMetric
from mmengine.runner import TestLoop, ValLoop
from mmseg_autodeeplab.datasets import SplitInfiniteSampler

pipeline = [
    dict(type=LoadImageFromFile, color_type='unchanged'),
    dict(type=LoadAnnotations), dict(type=PackSegInputs)]
dataset = dict(
    type=BaseSegDataset, data_root='ROOT', img_suffix='.png',
    metainfo=dict(classes=('ground', 'square')),
    data_prefix=dict(img_path='images', seg_map_path='labels'),
    pipeline=pipeline)
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset,
    sampler=dict(type=SplitInfiniteSampler))
val_dataloader = dict(
    batch_size=1, num_workers=0, dataset=dataset,
    sampler=dict(type=DefaultSampler, shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type=IoUMetric, iou_metrics=['mIoU'])
test_evaluator = val_evaluator
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
"""
SEARCH = """
from mmengine.config import read_base

with read_base():
    from .data import *

from mmengine.hooks import CheckpointHook, IterTimerHook, LoggerHook
from mmengine.optim import OptimWrapper
from mmseg.models import CrossEntropyLoss, EncoderDecoder, SegDataPreProcessor
from mmseg.structures import OHEMPixelSampler
from mmseg.visualization import SegLocalVisualizer
from torch.nn import BatchNorm2d
from torch.optim import SGD, Adam

from mmseg_autodeeplab.engine import SeededIterBasedTrainLoop
from mmseg_autodeeplab.models import (
    AutoDeepLabSearchHead, AutoDeepLabSupernet)
from mmseg_autodeeplab.search.gradient import ArchSearchHook, CostTerm
from mmseg_autodeeplab.visualization import SearchVisualizationHook

default_scope = 'mmseg'
randomness = dict(seed=0)
model = dict(
    type=EncoderDecoder,
    data_preprocessor=dict(
        type=SegDataPreProcessor, mean=[127.5] * 4, std=[127.5] * 4,
        size=(64, 64), pad_val=0, seg_pad_val=255),
    backbone=dict(
        type=AutoDeepLabSupernet, in_channels=4, num_layers=3, num_blocks=1,
        filter_multiplier=2, stem_channels=4),
    decode_head=dict(
        type=AutoDeepLabSearchHead, in_channels=[2, 4, 8, 16], num_classes=2,
        out_channels=1, threshold=0.7, dropout_ratio=0, align_corners=True,
        norm_cfg=dict(type=BatchNorm2d, affine=False),
        sampler=dict(type=OHEMPixelSampler, min_kept=500),
        loss_decode=dict(type=CrossEntropyLoss, use_sigmoid=True)),
    test_cfg=dict(mode='whole'))
img_scale = (64, 64)
train_cfg = dict(type=SeededIterBasedTrainLoop, max_iters=4, val_interval=4)
optim_wrapper = dict(
    type=OptimWrapper, optimizer=dict(type=SGD, lr=0.025, momentum=0.9))
default_hooks = dict(
    timer=dict(type=IterTimerHook),
    logger=dict(type=LoggerHook, interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=4),
    pictures=dict(type=SearchVisualizationHook, interval=0))
custom_hooks = [
    dict(
        type=ArchSearchHook, interval=2,
        terms=[dict(type=CostTerm, target=1e7, shape=(64, 64))])]
log_processor = dict(by_epoch=False)
visualizer = dict(type=SegLocalVisualizer, vis_backends=[
    dict(type='LocalVisBackend')])
retrain = dict(
    model=dict(
        backbone=dict(
            filter_multiplier=4, stem_channels=8,
            norm_cfg=dict(_replace_=True, type='BN')),
        decode_head=dict(
            channels=8, low_level_channels=4, dilations=(1, 2, 3),
            norm_cfg=dict(_replace_=True, type='BN'))),
    optim_wrapper=dict(
        _replace_=True, type=OptimWrapper, optimizer=dict(type=Adam, lr=0.01)),
    train_cfg=dict(max_iters=2, val_interval=2))
"""


@pytest.fixture
def config(tmp_path):
    """In a folder with a space in its name, with eight images."""
    folder = tmp_path / 'my search'
    rng = np.random.default_rng(0)
    for kind in ('images', 'labels'):
        (folder / 'data' / kind).mkdir(parents=True)
    for i in range(8):
        image = rng.integers(0, 256, (64, 64, 4), dtype=np.uint8)
        label = np.zeros((64, 64), dtype=np.uint8)
        label[8 : 20 + 4 * i, 16:40] = 1
        # Only the fourth channel tells.
        image[..., 3] = 200 * label
        for kind, pixels in (('images', image), ('labels', label)):
            cv2.imwrite(str(folder / 'data' / kind / f'{i}.png'), pixels)
    base = BASE.replace('ROOT', str(folder / 'data'))
    (folder / 'data.py').write_text(base)
    (folder / 'four.py').write_text(SEARCH)
    return folder / 'four.py'


@pytest.mark.run
def test_four_channels_of_a_new_style_config(config, run_tool, capfd):
    work = config.parent / 'work dir'
    run_tool('train', config, '--work-dir', work)
    run_tool('decode', work / 'iter_4.pth')
    printed = capfd.readouterr().out
    assert 'Left out' not in printed
    train, test = (
        shlex.split(line)
        for line in printed.splitlines()
        if line.startswith('python tools/')
    )
    retrain = work / 'decoded' / 'retrain.py'
    assert train == ['python', 'tools/train.py', str(retrain)]
    cfg, search = Config.fromfile(retrain), Config.fromfile(config)
    assert 'img_scale' not in cfg
    assert 'search' not in str([cfg.custom_hooks, cfg.default_hooks]).lower()
    run_tool('train', *train[2:])
    run_tool(test[1].removeprefix('tools/').removesuffix('.py'), *test[2:])
    assert 'mIoU' in capfd.readouterr().out

    head, searched = cfg.model.decode_head, search.model.decode_head
    for key in ('num_classes', 'out_channels', 'threshold'):
        assert head[key] == searched[key]
    assert head.sampler == dict(type='OHEMPixelSampler', min_kept=500)
    assert head.loss_decode == dict(type='CrossEntropyLoss', use_sigmoid=True)
    # What mmseg.apis look for.
    names = [transform.type for transform in cfg.test_pipeline]
    assert names == ['LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs']
    weights = torch.load(test[-1], weights_only=False)['state_dict']
    stem = 'backbone.stem.to_stride2.0.weight'
    assert weights[stem].shape == (8, 4, 3, 3)

    run_tool('analysis_tools/search_report', work)
    page = (work / 'search_report.html').read_text()
    counted = sum(
        value.numel()
        for name, value in weights.items()
        if name.startswith('backbone.')
        and name.rpartition('.')[2] in ('weight', 'bias')
    )
    assert f'<td>{counted:,}</td>' in page
    # The cost term counts four channels as well.
    architecture = json.loads((work / 'architecture.json').read_text())
    assert architecture['provenance']['metrics']['decoded_cost'] > 0
