"""How far the relaxed network is from the one that is decoded."""

from itertools import islice

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ...engine import bare_model
from ...errors import UserError
from .arch_search_hook import ArchSearchHook
from .arch_step import architecture_of
from .one_hot import evaluate
from .state import part_b_stream


@HOOKS.register_module()
class DiscretizationGapHook(Hook):
    """Measure the supernet relaxed and one-hot, on the same images of part B.

    One-hot is what would be decoded now: see :func:`.one_hot.evaluate`. The
    loss and the mIoU of both go to the log, and to the visualizer as
    ``gap/relaxed_loss``, ``gap/one_hot_loss``, ``gap/relaxed_mIoU`` and
    ``gap/one_hot_mIoU``. The search itself is the same without the hook.

    Args:
        interval (int): Iterations between two times; the end is always one.
        batches (int): How many of each process, the first of part B. They
            are kept in memory.
    """

    # A retraining goes without it.
    of_search = True

    def __init__(self, interval: int = 500, batches: int = 4) -> None:
        if not isinstance(batches, int) or batches < 1:
            raise UserError(
                f'DiscretizationGapHook.batches is {batches!r}, but must be '
                'an integer of 1 or more.'
            )
        self.interval = interval
        self.num_batches = batches

    def before_train(self, runner: Runner) -> None:
        """Read the batches."""
        hooks = [h for h in runner.hooks if isinstance(h, ArchSearchHook)]
        if not hooks:
            raise UserError(
                'DiscretizationGapHook measures what ArchSearchHook would '
                'decode, but custom_hooks has none; add it, or take '
                'DiscretizationGapHook out.'
            )
        backbone = bare_model(runner).backbone
        if not hasattr(backbone, 'one_hot'):
            raise UserError(
                'DiscretizationGapHook needs a backbone with one_hot(), but '
                f'found {type(backbone).__name__}; derive it from '
                'AutoDeepLabSupernet, or take the hook out.'
            )
        self.score = hooks[0].score
        # Their workers go with the stream.
        self.batches = list(islice(part_b_stream(runner), self.num_batches))

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Measure at the interval and at the end."""
        if not (
            self.every_n_train_iters(runner, self.interval)
            or self.is_last_train_iter(runner)
        ):
            return
        model = bare_model(runner)
        decoded = architecture_of(model.backbone, self.score)
        found = {
            name: evaluate(
                model,
                self.batches,
                architecture,
                runner.optim_wrapper.optim_context,
            )
            for name, architecture in dict(
                relaxed=None, one_hot=decoded
            ).items()
        }
        iteration = runner.iter + 1
        runner.logger.info(
            f'After {iteration} iterations, on {self.num_batches} batches of '
            'part B: '
            + ', '.join(
                f'{name.replace("_", "-")} loss {values["loss"]:.4f} and mIoU '
                f'{values["mIoU"]:.2f}'
                for name, values in found.items()
            )
        )
        runner.visualizer.add_scalars(
            {
                f'gap/{name}_{key}': value
                for name, values in found.items()
                for key, value in values.items()
            },
            step=iteration,
        )
