"""What MMEngine's runner knows and does not tell."""

from mmengine.runner import Runner


def is_resuming(runner: Runner) -> bool:
    """Whether a checkpoint is resumed from, and not only loaded.

    For ``after_load_checkpoint``; MMEngine has no public name for it, as
    ``cfg.resume`` is absent where no config made the runner.
    """
    return runner._resume
