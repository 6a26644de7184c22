"""Whether a checkpoint follows, as all processes know it."""

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner


def checkpoint_is_due(runner: Runner) -> bool:
    """Whether a ``CheckpointHook`` saves after this training iteration.

    ``before_save_checkpoint`` is called on rank 0 alone, so whatever takes
    all processes has to come before it. The conditions are those of the hook,
    by iterations.
    """
    return any(
        not hook.by_epoch
        and (
            hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
            or (hook.save_last and hook.is_last_train_iter(runner))
        )
        for hook in runner.hooks
        if isinstance(hook, CheckpointHook)
    )
