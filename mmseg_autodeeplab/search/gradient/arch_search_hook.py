"""The architecture half of each search iteration."""

import copy
import datetime
import os
import os.path as osp
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional, Union

import torch
from mmengine.dist import all_reduce_params, master_only
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor, nn

from ...arch import alpha_entropy, beta_entropy, signs_of_collapse
from ...compat.runner import is_resuming
from ...datasets import SplitInfiniteSampler
from ...engine import (
    SampleStream,
    bare_model,
    checkpoint_is_due,
    finite_loss_hooks,
    seeded_loader,
)
from ...errors import UserError
from .agreement import check_agreement
from .cost_term import CostTerm
from .identity import check_identity, search_identity
from .search_ema import SearchEMA

DATA_BATCH = Optional[Union[dict, tuple, list]]
ARCHITECTURE_FILE = 'architecture.json'


@HOOKS.register_module()
class ArchSearchHook(Hook):
    """Optimise the architecture on part B of the data, after the weights.

    First-order alternating optimisation (Auto-DeepLab, Sec. 4.1): the stock
    ``train_step`` has moved the weights on a batch of part A; this hook then
    takes one step on the architecture parameters with a batch of part B. Only
    their gradients are computed, on the bare module, and averaged over the
    processes. The batch passes through the model in training mode, so batch
    norm's running statistics see both halves.

    The training loader must use a ``SplitInfiniteSampler`` of part A; the
    loader of part B is a copy of it. The model needs
    ``backbone.arch_parameters()`` and ``backbone.architecture()``.

    With ``cost``, the term ``weight * log(expected / target) ** 2`` joins the
    loss of the architecture. Expected is what the derived network's backbone,
    stem and cells, costs in the mean over all paths under the betas, its cell
    relaxed under the alphas; see :mod:`mmseg_autodeeplab.arch.cost`. The head
    is not counted.

    The log has ``arch_loss``, the segmentation loss on part B;
    ``arch_cost_loss``, the term;
    ``arch_lr``; and, as they stand after the step, ``alpha_entropy`` and
    ``beta_entropy`` (nats) and ``expected_cost``. What is minimised is
    ``arch_loss + arch_cost_loss``. ``architecture.json`` tells
    ``decoded_cost``, too, what the decoded backbone costs.

    Args:
        begin (int): First iteration, counted from 0, that updates the
            architecture. Defaults to 0.
        interval (int): Iterations between two snapshots: the decoded
            architecture goes into the log and into ``architecture.json`` in
            the work directory. The last one is always written. Defaults to
            500.
        optimizer (dict): Optimizer of the architecture. Defaults to the
            paper's, Adam with lr 0.003 and weight decay 0.001.
        cost (dict, optional): Switches the cost term on. ``target`` is
            needed, in multiply-adds or parameters; ``weight`` defaults to
            0.1, ``quantity`` to ``'multiply_adds'`` (or ``'parameters'``),
            ``shape``, height and width of the image that is counted for, to
            (1025, 2049); ``filter_multiplier`` (20), ``stem_channels`` (64)
            and ``in_channels`` (3) are those of the derived network. Defaults
            to None.
    """

    # Before EMA, logger, schedulers and checkpoints of the same iteration.
    priority = 'ABOVE_NORMAL'

    STATE_KEY = 'arch_search'
    STATE_VERSION = 3

    def __init__(
        self,
        begin: int = 0,
        interval: int = 500,
        optimizer: dict = dict(type='Adam', lr=0.003, weight_decay=0.001),
        cost: Optional[dict] = None,
    ) -> None:
        self.begin = begin
        self.interval = interval
        self.optimizer_cfg = optimizer
        self._cost = None if cost is None else CostTerm(cost)
        self._resumed_state: Optional[dict] = None
        self._val_metrics: dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        """Build the optimizer and the loader; restore them on resume."""
        if self.begin >= runner.max_iters:
            raise UserError(
                f'ArchSearchHook.begin is {self.begin}, but the search ends '
                f'after {runner.max_iters} iterations, so the architecture '
                'would never be updated; lower begin or raise '
                'train_cfg.max_iters.'
            )
        _refuse_averages(runner)
        self.prepare(bare_model(runner), runner.optim_wrapper)
        # One iterator for the whole run: an infinite sampler that is iterated
        # a second time is empty.
        self._batches = SampleStream(_build_arch_dataloader(runner))
        if self._resumed_state is not None:
            self._load_state_dict(self._resumed_state)
        else:
            _set_aside(runner)

    def prepare(self, model: nn.Module, optim_wrapper: OptimWrapper) -> None:
        """Build what a step needs; no runner, so that it can be timed alone.

        Args:
            model (nn.Module): The bare segmentor, on its device.
            optim_wrapper (OptimWrapper): That of the weights.
        """
        self._backbone = _search_backbone(model)
        params = self._backbone.arch_parameters()
        self._optimizer = OPTIMIZERS.build(
            dict(self.optimizer_cfg, params=params)
        )
        self._scaler = None
        # bfloat16 has the range of float32.
        if isinstance(optim_wrapper, AmpOptimWrapper) and (
            optim_wrapper.cast_dtype != torch.bfloat16
        ):
            # One of its own: sharing would update the weights' scale twice.
            self._scaler = type(optim_wrapper.loss_scaler)()
        if self._cost is not None:
            self._cost.prepare(*params)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: DATA_BATCH = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Take the architecture step; log and write at the intervals."""
        if runner.iter >= self.begin:
            batch = self._next_batch()
            losses = self.step(bare_model(runner), runner.optim_wrapper, batch)
            for guard in finite_loss_hooks(runner):
                guard.check(runner, 'architecture', losses, batch)
            self._log(runner, losses)
        if self.every_n_train_iters(runner, self.interval):
            self._snapshot(runner, runner.iter + 1)
        if checkpoint_is_due(runner):
            check_agreement(self._backbone.arch_parameters(), runner.iter + 1)

    def after_val_epoch(
        self, runner: Runner, metrics: Optional[dict[str, float]] = None
    ) -> None:
        """Remember the metrics for the provenance of snapshots."""
        self._val_metrics = {k: float(v) for k, v in (metrics or {}).items()}

    def after_train(self, runner: Runner) -> None:
        """Write the final architecture."""
        self._snapshot(runner, runner.iter)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the state of the architecture half."""
        checkpoint[self.STATE_KEY] = dict(
            self._state_dict(), identity=_identity(runner)
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the state until the optimizer exists, if it is of this search.

        Raises:
            UserError: It is of another search, or of another version.
        """
        if not is_resuming(runner):
            return
        if self.STATE_KEY not in checkpoint:
            raise UserError(
                'The checkpoint to resume from is not one of an architecture '
                f'search, since it has no entry {self.STATE_KEY!r}; resume '
                'from a checkpoint that ArchSearchHook saw, or start anew '
                'with load_from.'
            )
        state = checkpoint[self.STATE_KEY]
        if state['version'] != self.STATE_VERSION:
            raise UserError(
                f'The search state in the checkpoint has version '
                f'{state["version"]}, but this version of mmseg_autodeeplab '
                f'reads version {self.STATE_VERSION}; resume with the version '
                'that wrote it.'
            )
        check_identity(state['identity'], _identity(runner))
        self._resumed_state = state

    def _next_batch(self) -> dict:
        return next(self._batches)

    def step(
        self, model: nn.Module, optim_wrapper: OptimWrapper, batch: dict
    ) -> dict[str, Tensor]:
        """One step on the architecture parameters.

        Args:
            model (nn.Module): The bare one: through a data-parallel wrapper
                the weights' gradients would be reduced, or missed.
            optim_wrapper (OptimWrapper): That of the weights, for autocast.
            batch (dict): As it comes out of the loader.

        Returns:
            dict[str, Tensor]: The addends of the loss by the names in the
            log, still on the device.
        """
        params = self._backbone.arch_parameters()
        with _differentiating(params, model):
            with optim_wrapper.optim_context(model):
                data = model.data_preprocessor(batch, True)
                loss, _ = model.parse_losses(model(**data, mode='loss'))
            losses = dict(arch_loss=loss)
            if self._cost is not None:
                # Outside of autocast: half precision ends at 65504.
                losses.update(arch_cost_loss=self._cost(*params))
            total = sum(losses.values())
            if self._scaler is not None:
                total = self._scaler.scale(total)
            grads = torch.autograd.grad(total, params)
            all_reduce_params(grads, op='mean')
            for param, grad in zip(params, grads):
                param.grad = grad
            if self._scaler is None:
                self._optimizer.step()
            else:
                self._scaler.step(self._optimizer)
                self._scaler.update()
            self._optimizer.zero_grad(set_to_none=True)
        return {name: value.detach() for name, value in losses.items()}

    def _log(self, runner: Runner, losses: dict[str, Tensor]) -> None:
        hub = runner.message_hub
        for name, value in losses.items():
            hub.update_scalar(f'train/{name}', value)
        lr = self._optimizer.param_groups[0]['lr']
        hub.update_scalar('train/arch_lr', lr)
        arrays = _as_arrays(self._backbone.arch_parameters())
        for name, value in self._measures(arrays).items():
            hub.update_scalar(f'train/{name}', value)

    def _measures(self, arrays: list) -> dict[str, float]:
        alphas, betas = arrays
        measures = dict(
            alpha_entropy=alpha_entropy(alphas),
            beta_entropy=beta_entropy(betas),
        )
        if self._cost is not None:
            measures.update(expected_cost=self._cost.expected(alphas, betas))
        return measures

    @master_only
    def _snapshot(self, runner: Runner, iteration: int) -> None:
        measures = self._measures(_as_arrays(self._backbone.arch_parameters()))
        metrics = dict(self._val_metrics, **measures)
        architecture = self._backbone.architecture()
        if self._cost is not None:
            metrics.update(decoded_cost=self._cost.decoded(architecture))
        architecture = architecture.with_provenance(
            config=osp.basename(runner.cfg.filename or ''),
            iteration=iteration,
            date=datetime.datetime.now().isoformat(timespec='seconds'),
            metrics=metrics,
        )
        architecture.dump(osp.join(runner.work_dir, ARCHITECTURE_FILE))
        runner.logger.info(
            f'Architecture after {iteration} iterations:\n'
            f'{architecture.describe()}'
        )
        signs = signs_of_collapse(architecture)
        if signs and iteration > self.begin:
            runner.logger.warning(
                f'After {iteration} iterations, the search may be collapsing: '
                f'{", and ".join(signs)}, with entropies of '
                f'{measures["alpha_entropy"]:.3f} (alphas) and '
                f'{measures["beta_entropy"]:.3f} (betas).'
            )

    def _state_dict(self) -> dict:
        state = dict(
            version=self.STATE_VERSION,
            optimizer=self._optimizer.state_dict(),
            position=self._batches.position,
        )
        if self._scaler is not None:
            state['scaler'] = self._scaler.state_dict()
        return state

    def _load_state_dict(self, state: dict) -> None:
        self._optimizer.load_state_dict(state['optimizer'])
        if self._scaler is not None and 'scaler' in state:
            self._scaler.load_state_dict(state['scaler'])
        self._batches.position = state['position']


def _search_backbone(model: nn.Module) -> nn.Module:
    backbone = getattr(model, 'backbone', None)
    for method in ('arch_parameters', 'architecture'):
        if not hasattr(backbone, method):
            raise UserError(
                f'ArchSearchHook needs a backbone with {method}(), but found '
                f'{type(backbone).__name__}; use AutoDeepLabSupernet, or take '
                'the hook out of custom_hooks.'
            )
    return backbone


def _refuse_averages(runner: Runner) -> None:
    for hook in runner.hooks:
        if isinstance(hook, EMAHook) and not isinstance(
            hook.ema_model, SearchEMA
        ):
            raise UserError(
                f'EMAHook with ema_type {type(hook.ema_model).__name__} '
                'would average alphas and betas, and checkpoints would hold '
                "the averages; set its ema_type to 'SearchEMA', which "
                'averages the weights alone.'
            )


def _build_arch_dataloader(runner: Runner) -> torch.utils.data.DataLoader:
    """The training loader once more, on part B of the same dataset."""
    sampler = _sampler_of(runner)
    found = type(sampler).__name__
    if isinstance(sampler, SplitInfiniteSampler):
        found += f' of part {sampler.part}'
    if found != 'SplitInfiniteSampler of part A':
        raise UserError(
            'ArchSearchHook trains the architecture on images that the '
            'weights never see, but the sampler of train_dataloader is '
            f'{found}; set train_dataloader.sampler to '
            "dict(type='SplitInfiniteSampler')."
        )
    cfg = copy.deepcopy(runner.cfg.train_dataloader)
    cfg.sampler.part = 'B'
    # Another seed: with the same one, parts of equal size would be walked
    # through in step.
    return seeded_loader(cfg, 'B', runner.seed + 1)


def _sampler_of(runner: Runner) -> torch.utils.data.Sampler:
    sampler = runner.train_dataloader.sampler
    return getattr(sampler, 'sampler', sampler)


@contextmanager
def _differentiating(
    params: list[nn.Parameter], model: nn.Module
) -> Iterator[None]:
    """Build graphs for these parameters alone, not for the weights."""
    weights = [p for p in model.parameters() if p.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    for param in params:
        param.requires_grad_(True)
    try:
        yield
    finally:
        for param in params:
            param.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)


def _as_arrays(params: list[nn.Parameter]) -> list:
    return [param.detach().float().cpu().numpy() for param in params]


@master_only
def _set_aside(runner: Runner) -> None:
    """Rename what an earlier search left in the work directory."""
    file = osp.join(runner.work_dir, ARCHITECTURE_FILE)
    if osp.exists(file):
        written = datetime.datetime.fromtimestamp(osp.getmtime(file))
        aside = file.replace('.json', f'_{written:%Y%m%d_%H%M%S}.json')
        os.rename(file, aside)
        runner.logger.info(
            f'The {ARCHITECTURE_FILE} of an earlier search is now {aside}.'
        )


def _identity(runner: Runner) -> dict:
    backbone = _search_backbone(bare_model(runner))
    return search_identity(backbone.arch_parameters(), _sampler_of(runner))
