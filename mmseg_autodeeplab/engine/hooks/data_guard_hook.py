"""One sentence, instead of a traceback, where a file of the data is bad."""

import copy
from collections.abc import Iterator
from typing import Any, Optional

import torch
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel
from mmengine.runner import BaseLoop, Runner
from mmseg.registry import HOOKS
from torch import nn

from ...datasets import CheckedPipeline
from ...errors import UserError
from ..bare_model import bare_model


@HOOKS.register_module()
class DataGuardHook(Hook):
    """Check every image and label as it is loaded.

    The pipelines of the training, validation and test data become
    :class:`CheckedPipeline`, which does the same and refuses a file that
    cannot be read, a label of another size than its image, and a label with
    a value that is no class of the model. Data and random numbers stay the
    same to the bit. What is collated from these data sets by other hooks is
    checked, too.
    """

    def before_run(self, runner: Runner) -> None:
        """Replace the pipelines of the loops that are built.

        Raises:
            UserError: A data set has other classes than the model.
        """
        num_classes, ignore_index = _labels_of(bare_model(runner))
        # The properties of these names would build what is not needed.
        for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
            if isinstance(loop, BaseLoop):
                for dataset in _leaves(loop.dataloader.dataset):
                    _check_classes(dataset, num_classes)
                    if type(dataset.pipeline) is Compose:
                        dataset.pipeline = CheckedPipeline(
                            dataset.pipeline.transforms,
                            # One logit tells two classes apart.
                            num_classes and max(num_classes, 2),
                            ignore_index,
                        )
        loop = runner._train_loop
        if (
            hasattr(loop, 'dataloader_iterator')
            and loop.dataloader.num_workers
        ):
            _restart(runner, loop)


def _labels_of(model: nn.Module) -> tuple[Optional[int], int]:
    """Number of classes, if the model tells, and the label to ignore."""
    if isinstance(model, BaseTTAModel):
        model = model.module
    head = getattr(model, 'decode_head', None)
    if isinstance(head, nn.ModuleList):
        head = head[-1]
    return (
        getattr(head, 'num_classes', None),
        getattr(head, 'ignore_index', 255),
    )


def _leaves(dataset: Any) -> Iterator[Any]:
    """The data sets with a pipeline, within wrappers."""
    if hasattr(dataset, 'datasets'):
        for inner in dataset.datasets:
            yield from _leaves(inner)
    elif hasattr(dataset, 'dataset'):
        yield from _leaves(dataset.dataset)
    elif hasattr(dataset, 'pipeline'):
        yield dataset


def _check_classes(dataset: Any, num_classes: Optional[int]) -> None:
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    # A head of one class may be for one of two.
    if classes and num_classes not in (None, 1, len(classes)):
        raise UserError(
            f'the model has num_classes={num_classes}, but '
            f'{type(dataset).__name__} has {len(classes)} classes: set '
            f'model.decode_head.num_classes={len(classes)}, or choose classes '
            'by metainfo of the dataset'
        )


def _restart(runner: Runner, loop: BaseLoop) -> None:
    """Load the training data anew: its workers run since the loop was built.

    They hold copies of the data set as it was. The sampler begins again, too,
    and has the same seed; the global one of torch stays where it was.
    """
    cfg = copy.copy(runner.cfg.train_dataloader)
    cfg.dataset = loop.dataloader.dataset  # guarded by now
    iterator = type(loop.dataloader_iterator)
    with torch.random.fork_rng(devices=[]):
        loop.dataloader = loop.dataloader_iterator = None
        BaseLoop.__init__(loop, runner, cfg)
        loop.dataloader_iterator = iterator(loop.dataloader)
