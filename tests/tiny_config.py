"""A config of MMSegmentation that trains in a second, and its data."""

import cv2
import numpy as np

CONFIG = """
default_scope = 'mmseg'
custom_imports = dict(
    imports=['mmseg_autodeeplab'], allow_failed_imports=False)
randomness = dict(seed=0)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', size=(32, 32), pad_val=0,
        seg_pad_val=255),
    backbone=dict(
        type='ResNet', depth=18, stem_channels=4, base_channels=4,
        num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,)),
    decode_head=dict(
        type='FCNHead', in_channels=4, channels=4, num_convs=1,
        num_classes=2),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)],
        [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]])]
tta_model = dict(type='SegTTAModel')
dataset = dict(
    type='BaseSegDataset', data_root='ROOT', img_suffix='.png',
    metainfo=dict(classes=('a', 'b'), palette=[[0, 0, 0], [9, 9, 9]]),
    data_prefix=dict(img_path='images', seg_map_path='labels'),
    pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(
        type='RepeatDataset', times=2, dataset=dataset),
    sampler=dict(type='InfiniteSampler'))
val_dataloader = test_dataloader = dict(
    batch_size=1, num_workers=0, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = test_evaluator = dict(type='IoUMetric')
val_cfg, test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
    visualization=dict(type='SegVisualizationHook', interval=1))
visualizer = dict(
    type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
"""


def write_config(folder):
    """Write it and two images of 32 x 32 pixels; returns its path."""
    for kind in ('images', 'labels'):
        (folder / 'data' / kind).mkdir(parents=True)
        for i in range(2):
            file = folder / 'data' / kind / f'{i}.png'
            cv2.imwrite(str(file), np.full((32, 32), i, dtype=np.uint8))
    path = folder / 'tiny.py'
    path.write_text(CONFIG.replace('ROOT', str(folder / 'data')))
    return path
