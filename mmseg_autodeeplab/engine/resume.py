"""What a resume brings back, and what it does not."""

import os.path as osp
from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..compat.runner import is_resuming
from ..errors import UserError
from .checkpoints import AtomicBackend

# In a checkpoint: the names of those that it takes the place of.
REPLACES = 'replaces'
# What schedulers keep of where they stand, besides private attributes, and
# the learning rates, which are compared themselves.
_STANDING = {
    *('last_step', 'verbose', 'base_values'),
    *('best', 'num_bad_epochs', 'cooldown_counter'),
}


class ResumeHook(Hook):
    """Say in one warning what is not resumed, or not as the config has it.

    MMEngine takes optimizers and schedules from a checkpoint as they were,
    whatever the config says now, and starts those anew which are not there.
    Other hooks add their notes as ``resume_notes``, a loop by ``obstacles()``.
    """

    priority = 'LOWEST'  # When the other hooks are ready.

    def __init__(self) -> None:
        self.resume_notes: list[str] = []

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare a checkpoint to resume with what the config has built."""
        if is_resuming(runner):
            self.resume_notes = list(_notes(runner, checkpoint))

    def before_train(self, runner: Runner) -> None:
        """Warn, where there is something to say."""
        notes = [
            n for h in runner.hooks for n in getattr(h, 'resume_notes', ())
        ]
        if runner.iter > 0:
            notes += getattr(runner.train_loop, 'obstacles', list)()
        if notes:
            runner.logger.warning(
                'The run goes on, but not exactly as if it had never '
                f'stopped: {"; ".join(notes)}.'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note what goes when this is in place, lest a kill lets it stay."""
        if AtomicBackend.outdated:
            names = map(osp.basename, AtomicBackend.outdated)
            checkpoint[REPLACES] = sorted(names)


def watch_resume(runner: Runner) -> None:
    """Give a runner a :class:`ResumeHook`, if it has none."""
    if not any(isinstance(hook, ResumeHook) for hook in runner.hooks):
        runner.register_hook(ResumeHook())


def changed_options(name: str, saved: dict, built: dict) -> Iterator[str]:
    """What differs in the options of an optimizer that is resumed.

    Args:
        name (str): Of the optimizer, in the config.
        saved (dict): Its state in the checkpoint, whose options go on.
        built (dict): Its state as the config has built it.

    Raises:
        UserError: It is another optimizer, or one of other parameters.
    """
    before, now = saved['param_groups'], built['param_groups']
    sizes = [[len(group['params']) for group in g] for g in (before, now)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f'{name} has {len(now)} groups of {sum(sizes[1])} parameters by '
            f'the config, but {len(before)} of {sum(sizes[0])} in the '
            'checkpoint, so it cannot be resumed: leave its paramwise_cfg and '
            'the model as they were, or start anew from the weights by '
            'load_from without resume'
        )
    old, new = ({k for k in g[0] if 'initial' not in k} for g in (before, now))
    # Versions of torch add options; those of others are missing both ways.
    if old - new and new - old:
        raise UserError(
            f'{name} has {", ".join(sorted(new - old))} by the config, but '
            f'{", ".join(sorted(old - new))} in the checkpoint, since it is '
            'of another type: leave it as it was, or start anew from the '
            'weights by load_from without resume'
        )
    for key in sorted(old & new - {'params'}):
        # A schedule moves an option, and keeps what it was at first.
        pairs = [
            tuple(group.get(f'initial_{key}', group[key]) for group in pair)
            for pair in zip(before, now)
        ]
        if changed := [pair for pair in pairs if pair[0] != pair[1]]:
            then, built_ = changed[0]
            count = len(changed)
            where = f' (in {count} groups of parameters)' if count > 1 else ''
            yield _differs(f'{name}.{key}{where}', then, built_, then)


def _notes(runner, checkpoint):
    built = runner.optim_wrapper.state_dict()
    saved = checkpoint.get('optimizer')
    if saved is None:
        yield 'the checkpoint has no optimizer, so momentum starts at zero'
    elif 'param_groups' in built and 'param_groups' in saved:
        yield from changed_options('optim_wrapper.optimizer', saved, built)
        if 'loss_scaler' in built.keys() - saved.keys():
            yield 'the checkpoint has no loss_scaler, which starts anew'
    if isinstance(runner.param_schedulers, list):
        states = checkpoint.get('param_schedulers') or []
        yield from _changed_schedules(runner.param_schedulers, states)
    info = checkpoint['message_hub']['runtime_info']
    then, now = info.get('max_iters', runner.max_iters), runner.max_iters
    if then != now:
        yield _differs('train_cfg.max_iters', then, now, now)


def _changed_schedules(schedules, states):
    for i, schedule in enumerate(schedules[len(states) :], len(states)):
        yield (
            f'the checkpoint has no state of param_scheduler.{i}, so '
            f'{type(schedule).__name__} starts again from its beginning'
        )
    for i in range(len(schedules), len(states)):
        yield f'param_scheduler.{i} of the checkpoint goes on no more'
    for i, (schedule, state) in enumerate(zip(schedules, states)):
        built = schedule.state_dict()
        then, now = (
            {key for key in s if key[0] != '_' and key not in _STANDING}
            for s in (state, built)
        )
        if then != now:
            yield (
                f'param_scheduler.{i} is of another type in the checkpoint, '
                f'whose place in the schedule {type(schedule).__name__} takes'
            )
        for key in sorted(then & now):
            if state[key] != built[key]:
                name = f'param_scheduler.{i}.{key}'
                yield _differs(name, state[key], built[key], state[key])


def _differs(name, then, now, used):
    return (
        f'{name} is {then} in the checkpoint and {now} in the config, and '
        f'{used} is used'
    )
