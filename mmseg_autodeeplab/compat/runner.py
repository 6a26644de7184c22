"""What MMEngine's runner knows and does not tell."""

import torch
from mmengine.runner import IterBasedTrainLoop, Runner


def is_resuming(runner: Runner) -> bool:
    """Whether a checkpoint is resumed from, and not only loaded.

    For ``after_load_checkpoint``; MMEngine has no public name for it, as
    ``cfg.resume`` is absent where no config made the runner.
    """
    return runner._resume


def open_loader(loop: IterBasedTrainLoop) -> None:
    """Draw the number that MMEngine's loop draws as it opens its loader.

    OneDL's opens it at the first batch, so that the weights of a new network,
    which are drawn before, would be others.
    """
    if getattr(loop.dataloader_iterator, '_iterator', loop) is None:
        torch.empty((), dtype=torch.int64).random_()
