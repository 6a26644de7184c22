"""Metrics that MMSegmentation lacks."""

import numpy as np
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS


@METRICS.register_module()
class FrequencyWeightedIoUMetric(IoUMetric):
    """``IoUMetric`` with ``fwIoU``: classes weighted by their labelled pixels.

    The reward of Nekrasov et al. (WACV 2020) is the geometric mean of it, mIoU
    and mAcc, each over the classes that occur:
    ``reward=['mIoU', 'mAcc', 'fwIoU']`` in a black-box search.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute those of ``IoUMetric``, and ``fwIoU`` in percent."""
        metrics = super().compute_metrics(results)
        if metrics:
            intersect, union, _, label = (
                sum(areas).double().numpy() for areas in zip(*results)
            )
            iou = intersect / np.maximum(union, 1)
            value = (label * iou).sum() / label.sum()
            metrics['fwIoU'] = np.round(100 * value, 2)
        return metrics
