"""The step on the architecture: an object that needs no runner."""

import inspect
from collections.abc import Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dist import all_gather, all_reduce_params
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn

from ...arch import SCORES, Architecture, alpha_entropy, beta_entropy
from ...errors import UserError
from .terms import ArchTerm

# The paper's (Sec. 4.1).
OPTIMIZER = dict(type='Adam', lr=0.003, weight_decay=0.001)


class ArchStep:
    """Move the architecture parameters of a supernet by one batch.

    First order (Auto-DeepLab, Sec. 4.1): only the gradients of the
    architecture parameters are computed, on the bare model, and averaged over
    the processes. In training mode, the batch moves running statistics, too.

    Args:
        model (nn.Module): The segmentor, on its device and without a wrapper.
            Its ``backbone`` has ``arch_parameters()``, here ``params``, and
            ``architecture()``; otherwise it is refused as a UserError.
        optim_wrapper (OptimWrapper): That of the weights, for its autocast.
            For fp16 the step has a loss scaler of its own, since sharing
            would update the weights' scale twice.
        optimizer (dict): Config of the architecture's optimizer.
        terms (Sequence[ArchTerm]): What joins the loss.
    """

    def __init__(
        self,
        model: nn.Module,
        optim_wrapper: OptimWrapper,
        optimizer: dict = OPTIMIZER,
        terms: Sequence[ArchTerm] = (),
    ) -> None:
        self.backbone = search_backbone(model)
        self.params = self.backbone.arch_parameters()
        self._terms = terms
        self._model = model
        self._autocast = optim_wrapper.optim_context
        self._optimizer = OPTIMIZERS.build(dict(optimizer, params=self.params))
        self._scaler = None
        # bfloat16 has the range of float32.
        if isinstance(optim_wrapper, AmpOptimWrapper) and (
            optim_wrapper.cast_dtype != torch.bfloat16
        ):
            self._scaler = type(optim_wrapper.loss_scaler)()
        for term in terms:
            term.backbone = self.backbone
            term.prepare(*self.params)

    @property
    def lr(self) -> float:
        """Learning rate of the architecture."""
        return self._optimizer.param_groups[0]['lr']

    def step(self, batch: dict) -> dict[str, Tensor]:
        """Take one step on a batch, as it comes out of the loader.

        Returns:
            dict[str, Tensor]: The addends of the loss by their names in the
            log, ``arch_loss`` first; scalars, still on the device.
        """
        model, params = self._model, self.params
        with _differentiating(params, model):
            with self._autocast(model):
                data = model.data_preprocessor(batch, True)
                loss, _ = model.parse_losses(model(**data, mode='loss'))
            losses = dict(arch_loss=loss)
            for term in self._terms:
                # Outside of autocast: half precision ends at 65504.
                losses[term.name] = term(*params)
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

    def arrays(self) -> list[np.ndarray]:
        """Copies of alphas, (edges, primitives), and betas, (L, 4, 3)."""
        return [p.detach().float().cpu().numpy() for p in self.params]

    def measures(self) -> dict[str, float]:
        """The entropies in nats, and what the terms measure."""
        alphas, betas = self.arrays()
        measures = dict(alpha_entropy=alpha_entropy(alphas))
        measures['beta_entropy'] = beta_entropy(betas)
        for term in self._terms:
            measures.update(term.measures(alphas, betas))
        return measures

    def state_dict(self) -> dict:
        """The state of the optimizer and, for fp16, of the scaler."""
        state = dict(optimizer=self._optimizer.state_dict())
        if self._scaler is not None:
            state['scaler'] = self._scaler.state_dict()
        return state

    def load_state_dict(self, state: dict) -> None:
        """Go back to a state; what else is in it is left alone."""
        self._optimizer.load_state_dict(state['optimizer'])
        if self._scaler is not None and 'scaler' in state:
            self._scaler.load_state_dict(state['scaler'])

    def check_agreement(self, iteration: int) -> None:
        """See that all processes have the same architecture, bit by bit.

        Waits for all processes, and for the device. All of them come to the
        same result, a :class:`UserError` where they have not, so none is left
        waiting for one that stopped.
        """
        values = torch.cat([p.detach().flatten() for p in self.params])
        # As bytes: what is not a number would differ from itself.
        first, *others = all_gather(values.view(torch.uint8))
        ranks = [
            str(rank)
            for rank, other in enumerate(others, 1)
            if not torch.equal(first, other)
        ]
        if ranks:
            raise UserError(
                f'After {iteration} iterations, alphas and betas on rank '
                f'{", ".join(ranks)} are not those on rank 0; make sure '
                'that nothing but ArchSearchHook changes them, and resume '
                'from the checkpoint before.'
            )


def search_backbone(model: nn.Module) -> nn.Module:
    """The supernet in a segmentor; a :class:`UserError` if it has none."""
    backbone = getattr(model, 'backbone', None)
    for method in ('arch_parameters', 'architecture'):
        if not hasattr(backbone, method):
            raise UserError(
                f'ArchSearchHook needs a backbone with {method}(), but found '
                f'{type(backbone).__name__}; use AutoDeepLabSupernet, or take '
                'the hook out of custom_hooks.'
            )
    return backbone


def architecture_of(backbone: nn.Module, score: str) -> Architecture:
    """What a supernet decodes to by a score of a path.

    One whose ``architecture()`` takes no score has the first of ``SCORES``;
    another is refused as a :class:`UserError`.
    """
    if score == SCORES[0]:
        return backbone.architecture()
    if not inspect.signature(backbone.architecture).parameters:
        raise UserError(
            f'the score of a path is {score!r}, but architecture() of '
            f'{type(backbone).__name__} takes no score; give it one, or take '
            'score out of ArchSearchHook.'
        )
    return backbone.architecture(score)


@contextmanager
def _differentiating(params, model):
    """Build graphs for these parameters alone, not for the weights."""
    weights = [p for p in model.parameters() if p.requires_grad]

    def differentiate(needed):
        for param in params:
            param.requires_grad_(needed)
        for weight in weights:
            weight.requires_grad_(not needed)

    differentiate(True)
    try:
        yield
    finally:
        differentiate(False)
