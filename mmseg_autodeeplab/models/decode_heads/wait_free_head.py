"""A decode head that leaves its accuracy on the device."""

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.utils import SampleList
from torch import Tensor, nn

from ..layers import resize


class WaitFreeHead(BaseDecodeHead):
    """``BaseDecodeHead``, but training does not wait for its accuracy.

    The stock one picks the pixels that count by a mask, and has to ask the
    device how many there are, between forward and backward. Losses and
    ``acc_seg`` are the same; where two classes have the very same logit, the
    accuracy may take the other one.
    """

    def loss_by_feat(
        self, seg_logits: Tensor, batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """Compute the losses and the accuracy of a batch.

        A ``sampler``, or a loss with ``avg_non_ignore=True``, waits for the
        device nevertheless.

        Args:
            seg_logits (Tensor): (N, num_classes, h, w).
            batch_data_samples (list[SegDataSample]): With labels (1, H, W).

        Returns:
            dict[str, Tensor]: Losses by name, those of one name as their sum,
            and ``acc_seg`` in percent.
        """
        labels = self._stack_batch_gt(batch_data_samples)
        logits = resize(seg_logits, labels.shape[2:], self.align_corners)
        weight = None
        if self.sampler is not None:
            weight = self.sampler.sample(logits, labels)
        labels = labels.squeeze(1)
        terms = self.loss_decode
        losses: dict[str, Tensor] = {}
        for term in terms if isinstance(terms, nn.ModuleList) else [terms]:
            loss = term(
                logits, labels, weight=weight, ignore_index=self.ignore_index
            )
            losses[term.loss_name] = losses.get(term.loss_name, 0) + loss
        losses['acc_seg'] = _accuracy(logits, labels, self.ignore_index)
        return losses


def _accuracy(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Percent of the labelled pixels; 100 where there are none, as stock."""
    counted = labels != ignore_index
    correct = (logits.argmax(1) == labels) & counted
    eps = torch.finfo(torch.float32).eps
    return (correct.sum() + eps) * 100 / (counted.sum() + eps)
