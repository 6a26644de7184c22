"""The metric of the reward of template-based networks."""

import numpy as np
import pytest
import torch

from mmseg_autodeeplab.datasets import FrequencyWeightedIoUMetric
from mmseg_autodeeplab.search.blackbox.proxy import reward


def evaluate(pairs, **options):
    """The metric of pairs of maps, of five classes."""
    metric = FrequencyWeightedIoUMetric(**options)
    metric.dataset_meta = dict(classes=tuple('abcde'))
    samples = [
        dict(
            pred_sem_seg=dict(data=torch.tensor(found)[None]),
            gt_sem_seg=dict(data=torch.tensor(label)[None]),
        )
        for found, label in pairs
    ]
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def test_a_mean_that_the_number_of_pixels_weights():
    """Class 3 is found where it is not, class 4 does not occur."""
    rng = np.random.RandomState(0)
    pairs = [
        (rng.choice(4, (6, 7)), rng.choice([0, 1, 1, 1, 2, 255], (6, 7)))
        for _ in range(3)
    ]
    values = evaluate(pairs)
    found, label = (
        np.concatenate([m.ravel() for m in x]) for x in zip(*pairs)
    )
    kept = label != 255
    found, label = found[kept], label[kept]
    weighted, ious, accuracies = 0, [], []
    for name in range(4):
        both = ((found == name) & (label == name)).sum()
        iou = both / ((found == name) | (label == name)).sum()
        weighted += (label == name).mean() * iou
        ious.append(iou)
        if name < 3:
            accuracies.append(both / (label == name).sum())
    expected = dict(
        mIoU=np.mean(ious), mAcc=np.mean(accuracies), fwIoU=weighted
    )
    for name, value in expected.items():
        assert values[name] == pytest.approx(100 * value, abs=0.006)
    mean = np.prod(list(expected.values())) ** (1 / 3)
    found = reward(values, ['mIoU', 'mAcc', 'fwIoU'])
    assert found == pytest.approx(100 * mean, abs=0.01)


def test_what_is_only_written_has_no_values(tmp_path):
    metric = FrequencyWeightedIoUMetric(
        format_only=True, output_dir=str(tmp_path)
    )
    metric.dataset_meta = dict(classes=('a',))
    assert metric.compute_metrics([]) == {}
