"""Whether a line of the log follows."""

from mmengine.hooks import LoggerHook
from mmengine.runner import Runner


def log_is_due(runner: Runner, batch_idx: int) -> bool:
    """Whether a ``LoggerHook`` writes a line after this training iteration.

    Its own conditions; the last iteration counts too, so that nothing is left
    out.
    """
    loader = runner.train_dataloader
    return runner.iter + 1 == runner.max_iters or any(
        hook.every_n_inner_iters(batch_idx, hook.interval)
        or (
            hook.end_of_epoch(loader, batch_idx)
            and (not hook.ignore_last or len(loader) <= hook.interval)
        )
        for hook in runner.hooks
        if isinstance(hook, LoggerHook)
    )
