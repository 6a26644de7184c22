"""A resumed run ends where the run that was never stopped ends."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Optional

from mmengine.device import get_device
from mmengine.dist import all_gather_object, all_reduce_params, get_rank
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.registry import HOOKS

from ...errors import UserError
from ..random_states import get_random_states, set_random_states
from .checkpoint_due import checkpoint_is_due


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Save and restore what MMEngine's checkpoints lack.

    On the CPU, a run that stopped at any checkpoint and is resumed ends with
    the weights, optimizers, running statistics and best metric of the run
    that was never stopped, bit by bit. For that

    - a checkpoint holds the random states of every process, which come back
      once the data that was trained on has passed again;
    - a validation that was due at the iteration of the checkpoint, which is
      written before it, is caught up;
    - validation leaves the random states of training as they were;
    - of several processes, a checkpoint holds the running statistics of the
      first. So before a checkpoint, and before a validation, all take the
      mean, as with MMEngine's ``SyncBuffersHook``.

    What keeps a resume from being exact is said in one warning: another
    number of processes, workers or images in a batch, a seed that is not in
    the config, a GPU, a checkpoint without this state, one amid accumulated
    gradients, a loop by epochs. The state is under ``exact_resume`` in the
    checkpoint and can be loaded with ``weights_only=True``.

    A resume loads all batches up to the checkpoint again, as MMEngine does,
    since the random states of the workers are nowhere else.
    """

    # After all that changes the state, the schedulers (LOW) for the last, and
    # before CheckpointHook (VERY_LOW).
    priority = 80

    STATE_KEY = 'exact_resume'
    STATE_VERSION = 1

    def __init__(self) -> None:
        # Of the iteration that it names; older ones are of no use.
        self._state: Optional[dict] = None
        self._is_training = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the state until training is about to go on."""
        if not runner._resume or self.STATE_KEY not in checkpoint:
            return
        self._state = checkpoint[self.STATE_KEY]
        version = self._state['version']
        if version != self.STATE_VERSION:
            raise UserError(
                f'The random states in the checkpoint have version {version}, '
                'but this version of mmseg_autodeeplab reads version '
                f'{self.STATE_VERSION}; resume with the version that wrote '
                'them.'
            )

    def before_train(self, runner: Runner) -> None:
        """Have the loop restore the state where it is to go on."""
        self._is_training = True
        if runner.iter == 0:
            return
        obstacles = list(self._obstacles(runner))
        if obstacles:
            runner.logger.warning(
                'The run goes on, but not exactly as if it had never '
                f'stopped: {"; ".join(obstacles)}.'
            )
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):
            # The loop skips that many batches without a hook in between, and
            # with num_workers=0 the next one is already random.
            loop.dataloader_iterator = _calling_after(
                runner.iter,
                loop.dataloader_iterator,
                partial(self._go_on, runner),
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Collect the state of all processes for a checkpoint."""
        if checkpoint_is_due(runner):
            self._collect(runner, runner.iter + 1)

    def before_val(self, runner: Runner) -> None:
        """Remember the random states; a best checkpoint may follow."""
        if self._is_training:
            self._collect(runner, runner.iter)
        self._before_val = get_random_states()

    def after_val(self, runner: Runner) -> None:
        """Give the random states back to training."""
        set_random_states(self._before_val)

    def after_train(self, runner: Runner) -> None:
        """Training is over."""
        self._is_training = False

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the state, if it is of this iteration."""
        state = self._state
        if state and state['iteration'] == checkpoint['meta']['iter']:
            checkpoint[self.STATE_KEY] = state

    def _collect(self, runner: Runner, iteration: int) -> None:
        if self._state and self._state['iteration'] == iteration:
            return
        # What is not a floating-point number is the same everywhere.
        all_reduce_params(
            (b for b in runner.model.buffers() if b.is_floating_point()),
            op='mean',
        )
        self._state = dict(
            _conditions(runner),
            version=self.STATE_VERSION,
            iteration=iteration,
            random=all_gather_object(get_random_states()),
        )

    def _obstacles(self, runner: Runner) -> Iterator[str]:
        """What keeps this resume from being exact."""
        if not isinstance(runner.train_loop, IterBasedTrainLoop):
            yield 'the loop counts epochs, not iterations'
        elif self._state is None:
            yield (
                'the checkpoint has no random states, since it was saved '
                'without ExactResumeHook'
            )
        else:
            now = dict(_conditions(runner), iteration=runner.iter)
            for name, value in now.items():
                if value != self._state[name]:
                    yield (
                        f'{name} is {value}, but was {self._state[name]} at '
                        'the checkpoint'
                    )
        if pending := runner.iter % getattr(
            runner.optim_wrapper, '_accumulative_counts', 1
        ):
            yield (
                f'gradients of {pending} iterations were accumulated '
                'and not yet applied'
            )
        if get_device() != 'cpu':
            yield f'results on {get_device()} may vary from run to run'

    def _go_on(self, runner: Runner) -> None:
        """Restore the random states; catch up what followed the checkpoint."""
        states = self._state['random'] if self._state else []
        if get_rank() < len(states):
            set_random_states(states[get_rank()])
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                # It saves again after a best validation, if it ever saved.
                hook.last_ckpt = runner.message_hub.get_info('last_ckpt')
        loop = runner.train_loop
        loop._decide_current_val_interval()  # As after every iteration.
        if (
            runner.val_loop is not None
            and loop.iter >= loop.val_begin
            and (
                loop.iter % loop.val_interval == 0
                or loop.iter == loop.max_iters
            )
        ):
            runner.logger.info(
                'Validating first, as was due at the checkpoint.'
            )
            runner.val_loop.run()


def _conditions(runner: Runner) -> dict:
    """What the random states and the order of the data hold for."""
    loader = runner.train_dataloader
    return dict(
        world_size=runner.world_size,
        num_workers=loader.num_workers,
        batch_size=loader.batch_size,
        seed=getattr(loader.sampler, 'seed', None),
        device=get_device(),
    )


def _calling_after(
    count: int, batches: Iterator, function: Callable[[], None]
) -> Iterator:
    """The same batches, and a call once ``count`` of them have passed."""
    for passed, batch in enumerate(batches, 1):
        if passed == count:
            function()
        yield batch
