"""The architecture step of each search iteration."""

import datetime
import os.path as osp
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Optional

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn

from ...arch import SCORES, are_sharp, check_score, disagreement
from ...compat.runner import is_resuming
from ...engine import (
    bare_model,
    changed_options,
    checkpoint_is_due,
    finite_loss_hooks,
)
from ...errors import UserError
from ...files import to_json
from ..history import ARCHITECTURE_FILE, append_record
from . import state
from .arch_step import OPTIMIZER, ArchStep, architecture_of
from .search_ema import refuse_other_averages
from .terms import build_terms

# Whose versions the history has.
LIBRARIES = ('mmseg_autodeeplab', 'torch', 'mmengine', 'mmcv', 'mmseg')
# In characters. A large table would make the file one that is not read.
LONGEST_METRIC = 10_000


@HOOKS.register_module()
class ArchSearchHook(Hook):
    """Optimise the architecture on part B of the data, after the weights.

    Alternating optimisation (Auto-DeepLab, Sec. 4.1): after the stock
    ``train_step`` on a batch of part A, the architecture step
    (:class:`ArchStep`) takes one of part B, from a copy of the training
    loader, which must use a ``SplitInfiniteSampler`` of part A.

    The log has ``arch_loss``, the segmentation loss on part B, each term by
    its name, ``arch_lr`` and, after the step, ``alpha_entropy`` and
    ``beta_entropy`` (nats) and what the terms measure. The work directory
    gets the decoded ``architecture.json`` and ``arch_history.jsonl``.

    Args:
        begin (int): First iteration, from 0, that updates the architecture.
        interval (int): Iterations between two times that both files are
            written; the end of the search is always one.
        optimizer (dict): Of the architecture. Defaults to the paper's, Adam
            with lr 0.003 and weight decay 0.001.
        terms (Sequence[dict]): What joins the loss, such as
            ``dict(type='CostTerm', target=100e9)``; see :class:`ArchTerm`.
        cost (dict, optional): Arguments of a ``CostTerm``: its old spelling.
        score (str): By which the path is decoded, for the log and the files:
            ``'probability'``, the paper's, ``'lift'``, which has no bias
            towards the borders of the trellis, or ``'inflow'``, all that a
            search can learn; ``'inflow:8'`` is the best path that ends at
            stride 8. It does not change the search.
    """

    # Before EMA, logger, schedulers and checkpoints of the same iteration.
    priority = 'ABOVE_NORMAL'
    # A retraining goes without it.
    of_search = True

    def __init__(
        self,
        begin: int = 0,
        interval: int = 500,
        optimizer: dict = OPTIMIZER,
        terms: Sequence[dict] = (),
        cost: Optional[dict] = None,
        score: str = SCORES[0],
    ) -> None:
        self.begin = begin
        self.interval = interval
        self.optimizer = optimizer
        self.terms = build_terms(terms, cost)
        self.score = check_score(score, 'ArchSearchHook.score')
        self._resumed: Optional[dict] = None
        self._val_metrics: dict[str, Any] = {}

    def build_step(self, model: nn.Module, wrapper: OptimWrapper) -> ArchStep:
        """Build the step, for a bare model and the weights' optimizer."""
        return ArchStep(model, wrapper, self.optimizer, self.terms)

    def before_train(self, runner: Runner) -> None:
        """Build the step and the stream of part B, where they are to go on."""
        if self.begin >= runner.max_iters:
            raise UserError(
                f'ArchSearchHook.begin is {self.begin}, but the search ends '
                f'after {runner.max_iters} iterations, so the architecture '
                'would never be updated; lower begin or raise '
                'train_cfg.max_iters.'
            )
        refuse_other_averages(runner)
        model = bare_model(runner)
        self.arch_step = self.build_step(model, runner.optim_wrapper)
        architecture_of(self.arch_step.backbone, self.score)  # Or refuses.
        resumed = self._resumed or dict(position=0)
        self.stream = state.part_b_stream(runner, resumed['position'])
        if self._resumed:
            built = self.arch_step.state_dict()['optimizer']
            self.resume_notes = [
                *changed_options(
                    'ArchSearchHook.optimizer', resumed['optimizer'], built
                )
            ]
            self.arch_step.load_state_dict(resumed)
        versions = {key: import_module(key).__version__ for key in LIBRARIES}
        config = _config(runner)
        self._remember(runner, runner.iter, config=config, versions=versions)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Take the architecture step; log and write at the intervals."""
        if runner.iter >= self.begin:
            batch, arch_step = next(self.stream), self.arch_step
            updates = runner.max_iters - self.begin
            for term in self.terms:
                term.progress = (runner.iter - self.begin) / updates
            losses = arch_step.step(batch)
            for guard in finite_loss_hooks(runner):
                guard.check(runner, 'architecture', losses, batch)
            losses.update(arch_step.measures(), arch_lr=arch_step.lr)
            for name, value in losses.items():
                runner.message_hub.update_scalar(f'train/{name}', value)
        if self.every_n_train_iters(runner, self.interval):
            self._snapshot(runner, runner.iter + 1)
        if checkpoint_is_due(runner):
            self.arch_step.check_agreement(runner.iter + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Remember the metrics, of any kind, for the provenance."""
        self._val_metrics = {
            name: value
            for name, value in metrics.items()
            if len(to_json(value)) <= LONGEST_METRIC
        }

    def after_train(self, runner: Runner) -> None:
        """Write the final architecture."""
        self._snapshot(runner, runner.iter)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the state of the step and the position in part B."""
        checkpoint[state.STATE_KEY] = dict(
            self.arch_step.state_dict(),
            version=state.STATE_VERSION,
            position=self.stream.position,
            identity=state.search_identity(runner),
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the state of a search that is resumed; refuse another's."""
        if is_resuming(runner):
            self._resumed = state.state_to_resume(runner, checkpoint)

    @master_only
    def _remember(self, runner, iteration, **notes):
        arrays = self.arch_step.arrays()
        append_record(runner.work_dir, iteration, *arrays, **notes)

    @master_only
    def _snapshot(self, runner, iteration):
        self._remember(runner, iteration)
        alphas, betas = self.arch_step.arrays()
        architecture = architecture_of(self.arch_step.backbone, self.score)
        metrics = dict(self._val_metrics, **self.arch_step.measures())
        for term in self.terms:
            metrics.update(term.measures_of(architecture))
        architecture = architecture.with_provenance(
            config=_config(runner),
            iteration=iteration,
            date=datetime.datetime.now().isoformat(timespec='seconds'),
            score=self.score,
            metrics=metrics,
        )
        architecture.dump(osp.join(runner.work_dir, ARCHITECTURE_FILE))
        lines = [f'Architecture after {iteration} iterations:']
        lines.append(architecture.describe())
        learns = iteration > self.begin
        if learns and (note := disagreement(betas, self.score)):
            lines.append(note)
        runner.logger.info('\n'.join(lines))
        signs = architecture.signs_of_collapse(*are_sharp(alphas, betas))
        if learns and signs:
            runner.logger.warning(
                f'After {iteration} iterations, the search may be collapsing: '
                f'{", and ".join(signs)}, with entropies of '
                f'{metrics["alpha_entropy"]:.3f} (alphas) and '
                f'{metrics["beta_entropy"]:.3f} (betas).'
            )


def _config(runner):
    return osp.basename(runner.cfg.filename or '')
