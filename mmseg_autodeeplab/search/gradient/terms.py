"""What joins the loss of the architecture: registered objects."""

import inspect
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Optional

import numpy as np
import torch
from mmseg.registry import TASK_UTILS
from torch import Tensor, nn

from ... import arch
from ...compat.registry import is_a, resolve
from ...errors import UserError
from ...models.layers import masked_softmax


class ArchTerm:
    """An addend of the loss of the architecture.

    A term of one's own derives from this class, is registered in
    ``mmseg.registry.TASK_UTILS``, and is listed in ``ArchSearchHook.terms``.
    Alphas are of shape (edges, primitives) and betas of shape (L, 4, 3), both
    before the softmax.

    Attributes:
        name (str): Of the addend in the log; it has ``loss`` in it, as all
            losses of MMEngine have. No two terms of a search share it.
        backbone (nn.Module, optional): The supernet, from ``prepare`` on.
    """

    name = ''
    backbone: Optional[nn.Module] = None

    def prepare(self, alphas: Tensor, betas: Tensor) -> None:
        """Make ready, once, for parameters of these shapes and device."""

    def __call__(self, alphas: Tensor, betas: Tensor) -> Tensor:
        """The addend, a differentiable scalar."""
        raise NotImplementedError

    def measures(self, alphas: np.ndarray, betas: np.ndarray) -> dict:
        """Numbers that the log and ``architecture.json`` tell of these."""
        return {}

    def measures_of(self, architecture: arch.Architecture) -> dict:
        """Numbers that ``architecture.json`` tells of what is decoded."""
        return {}


def _is_positive(value, kinds=int):
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf


def _is_size(value):
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    return is_pair and all(map(_is_positive, value))


NUMBER = partial(_is_positive, kinds=(int, float)), 'a positive number'
INTEGER = _is_positive, 'a positive integer'
QUANTITIES = ' or '.join(map(repr, arch.QUANTITIES))
# What the arguments of a CostTerm may be, and how an error says so.
ALLOWED = dict(
    target=NUMBER,
    weight=NUMBER,
    quantity=(arch.QUANTITIES.__contains__, QUANTITIES),
    shape=(_is_size, 'the height and width of an image'),
    filter_multiplier=INTEGER,
    stem_channels=INTEGER,
    in_channels=(lambda n: n is None or _is_positive(n), INTEGER[1]),
)


@TASK_UTILS.register_module()
class CostTerm(ArchTerm):
    """Hold the search at a cost: ``weight * log(expected / target) ** 2``.

    Expected is the cost of the derived network's backbone, without the head,
    under alphas and betas: :func:`mmseg_autodeeplab.arch.expected_cost`.
    ``architecture.json`` tells what the decoded one costs, ``decoded_cost``.

    Args:
        target (float): In multiply-adds or parameters.
        weight (float): Of the term.
        quantity (str): ``'multiply_adds'`` or ``'parameters'``.
        shape (Sequence[int]): Height and width of the image, in pixels.
        filter_multiplier, stem_channels (int): Of the derived network.
        in_channels (int, optional): Of the image; by default the supernet's.
    """

    name = 'arch_cost_loss'

    def __init__(
        self,
        target: float,
        weight: float = 0.1,
        quantity: str = 'multiply_adds',
        shape: Sequence[int] = (1025, 2049),
        filter_multiplier: int = 20,
        stem_channels: int = 64,
        in_channels: Optional[int] = None,
    ) -> None:
        self._counted = dict(
            quantity=quantity,
            shape=shape,
            filter_multiplier=filter_multiplier,
            stem_channels=stem_channels,
            in_channels=in_channels,
        )
        values = dict(self._counted, target=target, weight=weight)
        for key, (is_allowed, words) in ALLOWED.items():
            if not is_allowed(values[key]):
                raise UserError(
                    f'CostTerm.{key} is {values[key]!r}, but must be {words}.'
                )
        self.target = target
        self.weight = weight

    def prepare(self, alphas: Tensor, betas: Tensor) -> None:
        """Count everything once."""
        size = arch.num_blocks_of(len(alphas)), len(betas)
        counted = dict(self._counted)
        if counted['in_channels'] is None:
            counted['in_channels'] = getattr(self.backbone, 'in_channels', 3)
        self._tables = arch.cost_tables(*size, **counted)
        like = dict(dtype=betas.dtype, device=betas.device)
        self._tensors = arch.CostTables(
            *(torch.as_tensor(table, **like) for table in self._tables)
        )
        self._transitions = torch.as_tensor(
            arch.transition_mask(len(betas)), device=betas.device
        )

    def __call__(self, alphas: Tensor, betas: Tensor) -> Tensor:
        """The term for parameters, before the softmax."""
        alphas = alphas.softmax(-1)
        betas = masked_softmax(betas, self._transitions)
        expected = arch.expected_cost(self._tensors, alphas, betas, torch)
        return self.weight * (expected / self.target).log().square()

    def measures(self, alphas: np.ndarray, betas: np.ndarray) -> dict:
        """The expected cost."""
        alphas = arch.alpha_probabilities(alphas)
        betas = arch.beta_probabilities(betas)
        cost = arch.expected_cost(self._tables, alphas, betas)
        return dict(expected_cost=float(cost))

    def measures_of(self, architecture: arch.Architecture) -> dict:
        """The cost of one architecture."""
        cost = arch.expected_cost(self._tables, *arch.one_hot(architecture))
        return dict(decoded_cost=round(cost))


def build_terms(terms: Any, cost: Any = None) -> list[ArchTerm]:
    """Build ``ArchSearchHook.terms``, or the one term of its ``cost``."""
    if cost is not None:
        if terms:
            raise UserError(
                'ArchSearchHook has terms and cost, but cost=dict(...) is the '
                "old spelling of terms=[dict(type='CostTerm', ...)]; put it "
                'into terms.'
            )
        if not isinstance(cost, dict):
            raise UserError(
                f'ArchSearchHook.cost is {cost!r}, but must be None or a dict '
                'with target, such as dict(target=100e9).'
            )
        terms = [dict(cost, type='CostTerm')]
    if not isinstance(terms, (list, tuple)):
        raise UserError(
            f'ArchSearchHook.terms is {terms!r}, but must be a list, such as '
            "[dict(type='CostTerm', target=100e9)]."
        )
    built = [_build_term(cfg) for cfg in terms]
    names = ['arch_loss']
    for term in built:
        if 'loss' not in term.name or term.name in names:
            raise UserError(
                f'The {type(term).__name__} in ArchSearchHook.terms has the '
                f'name {term.name!r}, but must have one with "loss" in it '
                f'that is not among {", ".join(names)}; give it another.'
            )
        names.append(term.name)
    return built


def _build_term(cfg):
    if not is_a(TASK_UTILS, cfg, ArchTerm):
        raise UserError(
            f'ArchSearchHook.terms has {cfg!r}, but must have dicts whose '
            'type is an ArchTerm that is registered in TASK_UTILS; correct '
            'it, or import the module of the term with custom_imports.'
        )
    try:
        return TASK_UTILS.build(cfg)
    except TypeError as error:
        cls = resolve(TASK_UTILS, cfg['type'])
        takes = ', '.join(inspect.signature(cls).parameters)
        raise UserError(
            f'{cls.__name__} in ArchSearchHook.terms cannot be built, '
            f'{error}; it takes {takes}.'
        ) from error
