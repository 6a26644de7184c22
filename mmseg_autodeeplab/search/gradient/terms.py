"""What joins the loss of the architecture: registered objects."""

import inspect
import math
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import torch
from mmseg.registry import TASK_UTILS
from torch import Tensor

from ...arch import (
    QUANTITIES,
    AutoDeepLabArchitecture,
    CostTables,
    alpha_probabilities,
    beta_probabilities,
    cost_tables,
    expected_cost,
    num_blocks_of,
    one_hot,
    transition_mask,
)
from ...compat.registry import resolve
from ...errors import UserError
from ...models.layers import masked_softmax


class ArchTerm:
    """An addend of the loss of the architecture.

    A term of one's own derives from this class, is registered in
    ``mmseg.registry.TASK_UTILS``, and is listed in ``ArchSearchHook.terms``.

    Attributes:
        name (str): Of the addend in the log; it has ``loss`` in it, as all
            losses of MMEngine have. No two terms of a search share it.

    Example:
        >>> @TASK_UTILS.register_module()
        ... class EntropyTerm(ArchTerm):
        ...     name = 'arch_entropy_loss'
        ...
        ...     def __call__(self, alphas, betas):
        ...         p = alphas.softmax(-1)
        ...         return -0.01 * (p * p.log()).sum(-1).mean()
        >>> ArchSearchHook(terms=[dict(type='EntropyTerm')])
    """

    name = ''

    def prepare(self, alphas: Tensor, betas: Tensor) -> None:
        """Make ready, once, for parameters of these shapes and device.

        Args:
            alphas (Tensor): Shape (edges, primitives), before the softmax.
            betas (Tensor): Shape (L, 4, 3), before the softmax.
        """

    def __call__(self, alphas: Tensor, betas: Tensor) -> Tensor:
        """The addend, a differentiable scalar; arguments as above."""
        raise NotImplementedError

    def measures(
        self, alphas: np.ndarray, betas: np.ndarray
    ) -> dict[str, float]:
        """What the log and ``architecture.json`` tell of the parameters."""
        return {}

    def measures_of(
        self, architecture: AutoDeepLabArchitecture
    ) -> dict[str, float]:
        """What ``architecture.json`` tells of the decoded architecture."""
        return {}


@TASK_UTILS.register_module()
class CostTerm(ArchTerm):
    """Hold the search at a cost: ``weight * log(expected / target) ** 2``.

    Expected is what the derived network's backbone, stem and cells, costs in
    the mean over all paths under the betas, its cell relaxed under the
    alphas; see :func:`mmseg_autodeeplab.arch.expected_cost`. The head is not
    counted. The log has ``expected_cost``; ``architecture.json`` tells
    ``decoded_cost``, too, what the decoded backbone costs.

    Args:
        target (float): In multiply-adds or parameters.
        weight (float): Defaults to 0.1.
        quantity (str): ``'multiply_adds'`` or ``'parameters'``. Defaults to
            ``'multiply_adds'``.
        shape (Sequence[int]): Height and width in pixels of the image that is
            counted for. Defaults to (1025, 2049).
        filter_multiplier (int): Of the derived network. Defaults to 20.
        stem_channels (int): Of the derived network. Defaults to 64.
        in_channels (int): Of the images. Defaults to 3.

    Raises:
        UserError: A value makes no sense.
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
        in_channels: int = 3,
    ) -> None:
        numbers = dict(target=target, weight=weight)
        widths = dict(
            filter_multiplier=filter_multiplier,
            stem_channels=stem_channels,
            in_channels=in_channels,
        )
        for key, value in numbers.items():
            if not _is_positive(value, (int, float)):
                _refuse(key, value, 'a positive number')
        for key, value in widths.items():
            if not _is_positive(value, int):
                _refuse(key, value, 'a positive integer')
        if (
            not isinstance(shape, (list, tuple))
            or len(shape) != 2
            or not all(_is_positive(n, int) for n in shape)
        ):
            _refuse('shape', shape, 'the height and width of an image')
        if quantity not in QUANTITIES:
            _refuse('quantity', quantity, ' or '.join(map(repr, QUANTITIES)))
        self.target = target
        self.weight = weight
        self._counted = dict(quantity=quantity, shape=shape, **widths)

    def prepare(self, alphas: Tensor, betas: Tensor) -> None:
        """Count everything once."""
        self._tables = cost_tables(
            num_blocks_of(len(alphas)), len(betas), **self._counted
        )
        like = dict(dtype=betas.dtype, device=betas.device)
        self._tensors = CostTables(
            *(torch.as_tensor(table, **like) for table in self._tables)
        )
        self._transitions = torch.as_tensor(
            transition_mask(len(betas)), device=betas.device
        )

    def __call__(self, alphas: Tensor, betas: Tensor) -> Tensor:
        """The term for parameters, before the softmax."""
        expected = expected_cost(
            self._tensors,
            alphas.softmax(-1),
            masked_softmax(betas, self._transitions),
            torch,
        )
        return self.weight * (expected / self.target).log().square()

    def measures(
        self, alphas: np.ndarray, betas: np.ndarray
    ) -> dict[str, float]:
        """The expected cost."""
        cost = expected_cost(
            self._tables,
            alpha_probabilities(alphas),
            beta_probabilities(betas),
        )
        return dict(expected_cost=float(cost))

    def measures_of(
        self, architecture: AutoDeepLabArchitecture
    ) -> dict[str, float]:
        """The cost of one architecture."""
        cost = expected_cost(self._tables, *one_hot(architecture))
        return dict(decoded_cost=round(cost))


def build_terms(
    terms: Sequence[dict], cost: Optional[dict] = None
) -> list[ArchTerm]:
    """Build what ``ArchSearchHook`` is given.

    Args:
        terms (Sequence[dict]): Configs of terms.
        cost (dict, optional): The old spelling: arguments of a ``CostTerm``.

    Raises:
        UserError: A config makes no sense, or two terms have one name.
    """
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


def _build_term(cfg: Any) -> ArchTerm:
    kind = cfg.get('type') if isinstance(cfg, dict) else None
    cls = resolve(TASK_UTILS, kind)
    if not isinstance(cls, type) or not issubclass(cls, ArchTerm):
        raise UserError(
            f'ArchSearchHook.terms has {cfg!r}, but must have dicts whose '
            'type is an ArchTerm that is registered in TASK_UTILS; correct '
            'it, or import the module of the term with custom_imports.'
        )
    # Before the call, which may raise TypeErrors of its own.
    values = {key: value for key, value in cfg.items() if key != 'type'}
    signature = inspect.signature(cls)
    try:
        signature.bind(**values)
    except TypeError as error:
        raise UserError(
            f'{cls.__name__} in ArchSearchHook.terms cannot be built, '
            f'{error}; it takes {", ".join(signature.parameters)}.'
        ) from error
    return TASK_UTILS.build(cfg)


def _is_positive(value: Any, types: Any) -> bool:
    return (
        isinstance(value, types)
        and not isinstance(value, bool)
        and 0 < value < math.inf
    )


def _refuse(key: str, found: Any, allowed: str) -> None:
    raise UserError(f'CostTerm.{key} is {found!r}, but must be {allowed}.')
