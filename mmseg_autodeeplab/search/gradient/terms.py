"""What joins the loss of the architecture: the base, and how it is built."""

import inspect
import math
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
from mmseg.registry import TASK_UTILS
from torch import Tensor, nn

from ... import arch
from ...compat.registry import is_a, resolve
from ...errors import UserError


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
        progress (float): Where the updates of the architecture stand, which
            ``ArchSearchHook`` tells before each: 0 at its ``begin``, 1 at
            the end of the search. 1 where nobody tells.
    """

    name = ''
    backbone: Optional[nn.Module] = None
    progress = 1.0

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


def is_number(value: Any, kinds: Any = (int, float)) -> bool:
    """Whether a value is a finite number of these kinds, and no boolean."""
    of_kind = isinstance(value, kinds) and not isinstance(value, bool)
    return of_kind and abs(value) < math.inf


def check_arguments(
    term: ArchTerm,
    allowed: dict[str, tuple[Callable[[Any], bool], str]],
    values: dict,
) -> None:
    """Raise a :class:`UserError` at the first value that is not allowed.

    ``allowed`` has what tells, by the argument's name, and what it must be.
    """
    for name, value in values.items():
        is_allowed, words = allowed[name]
        if not is_allowed(value):
            raise UserError(
                f'{type(term).__name__}.{name} is {value!r}, but must be '
                f'{words}.'
            )


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
