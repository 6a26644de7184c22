"""The supernet with its own alphas and betas, and with those of one network.

How much worse the second is than the first is the gap of the decode
(discretization gap).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Optional

import torch
from mmengine.dist import all_reduce
from mmseg.evaluation import IoUMetric
from torch import nn
from torch.func import functional_call

from ...arch import AutoDeepLabArchitecture
from ...engine.randomness import seeded
from .arch_step import search_backbone


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[dict],
    architecture: Optional[AutoDeepLabArchitecture] = None,
    optim_context: Callable[[nn.Module], AbstractContextManager] = (
        lambda model: nullcontext()
    ),
) -> dict[str, float]:
    """Measure a supernet, or in it one architecture, and change nothing.

    The model stays in the mode that it is in: that of training, for the
    statistics of a batch, since the running ones are those of the relaxed
    network. They are updated in copies, and random numbers, such as those of
    drop-out, are the same each time and leave the generators as they were.

    One-hot, all nodes off the path are exactly zero. So a node's second
    input, H^{l-2} at its own scale (Eq. 5), is zero where the path was at
    another scale two layers before; the derived network resizes it instead.
    In the head, the scales at which the path does not end add what comes of
    zeros, with norms that are not affine the biases of their classifiers.

    Args:
        model (nn.Module): The segmentor, without a wrapper.
        batches (Iterable[dict]): As they come out of the loader, in each
            process its own.
        architecture (AutoDeepLabArchitecture, optional): Of as many layers
            and blocks as the supernet; by default the present alphas and
            betas are left as they are.
        optim_context (Callable): That of the optimizer wrapper of the
            weights, for its autocast.

    Returns:
        dict[str, float]: ``loss``, that of the decode head, the mean over the
        batches of all processes, and ``mIoU`` in percent, of all their
        pixels, as ``IoUMetric`` counts it.
    """
    backbone, head = search_backbone(model), model.decode_head
    chosen = backbone.one_hot(architecture) if architecture else {}
    chosen = {f'backbone.{name}': value for name, value in chosen.items()}
    # A head of one channel tells two classes apart.
    num_classes = max(model.num_classes, 2)
    areas = torch.zeros(2, num_classes, dtype=torch.double)
    losses = torch.zeros(2, dtype=torch.double)  # their sum and number
    with _numbers_of_their_own(model):
        for batch in batches:
            buffers = {n: b.clone() for n, b in model.named_buffers()}
            with optim_context(model):
                data = model.data_preprocessor(batch, True)
                samples = data['data_samples']
                logits = functional_call(
                    model, buffers | chosen, (), dict(data, mode='tensor')
                )
                loss = head.loss_by_feat(logits, samples)
                loss, _ = model.parse_losses(loss)
            losses += losses.new_tensor([loss.item(), 1])
            labels = torch.cat([s.gt_sem_seg.data for s in samples])
            shape = dict(img_shape=labels.shape[1:])
            logits = head.predict_by_feat(logits.float(), [shape])
            if logits.shape[1] > 1:
                found = logits.argmax(1)
            else:
                found = (logits.sigmoid() > head.threshold).squeeze(1).int()
            intersection, union, *_ = IoUMetric.intersect_and_union(
                found.cpu(), labels.cpu(), num_classes, head.ignore_index
            )
            areas += torch.stack([intersection, union])
    for totals in (areas, losses):
        all_reduce(totals)
    return dict(
        loss=(losses[0] / losses[1]).item(),
        # Classes that are nowhere do not count.
        mIoU=100 * (areas[0] / areas[1]).nanmean().item(),
    )


@contextmanager
def _numbers_of_their_own(model: nn.Module) -> Iterator[None]:
    is_on_gpu = next(model.parameters()).is_cuda
    devices = [torch.cuda.current_device()] if is_on_gpu else []
    with seeded(0), torch.random.fork_rng(devices):
        if is_on_gpu:
            torch.cuda.manual_seed(0)
        yield
