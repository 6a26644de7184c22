"""The term that holds the search at a cost."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...arch import (
    QUANTITIES,
    Architecture,
    CostTables,
    alpha_probabilities,
    beta_probabilities,
    cost_tables,
    expected_cost,
    num_blocks_of,
    one_hot,
    transition_mask,
)
from ...errors import UserError
from ...models.layers import masked_softmax

_DEFAULTS = dict(
    target=None,
    weight=0.1,
    shape=(1025, 2049),
    quantity='multiply_adds',
    filter_multiplier=20,
    stem_channels=64,
    in_channels=3,
)


class CostTerm:
    """``weight * log(expected / target) ** 2``.

    Expected is the cost of the derived backbone under the present alphas and
    betas, see :func:`mmseg_autodeeplab.arch.expected_cost`.

    Args:
        cfg (dict): ``ArchSearchHook.cost``.

    Raises:
        UserError: If a key is unknown or a value makes no sense.
    """

    def __init__(self, cfg: dict) -> None:
        _check(cfg)
        self._cfg = dict(_DEFAULTS, **cfg)
        self.target = self._cfg.pop('target')
        self.weight = self._cfg.pop('weight')

    def prepare(self, alphas: nn.Parameter, betas: nn.Parameter) -> None:
        """Count everything once, for parameters of this shape and device."""
        self._tables = cost_tables(
            num_blocks_of(len(alphas)), len(betas), **self._cfg
        )
        like = dict(dtype=betas.dtype, device=betas.device)
        self._tensors = CostTables(
            *(torch.as_tensor(table, **like) for table in self._tables)
        )
        self._transitions = torch.as_tensor(
            transition_mask(len(betas)), device=betas.device
        )

    def __call__(self, alphas: Tensor, betas: Tensor) -> Tensor:
        """The term for parameters, before the softmax; differentiable."""
        expected = expected_cost(
            self._tensors,
            alphas.softmax(-1),
            masked_softmax(betas, self._transitions),
            torch,
        )
        return self.weight * (expected / self.target).log().square()

    def expected(self, alphas: np.ndarray, betas: np.ndarray) -> float:
        """The expected cost for copies of the parameters, as a number."""
        return float(
            expected_cost(
                self._tables,
                alpha_probabilities(alphas),
                beta_probabilities(betas),
            )
        )

    def decoded(self, architecture: Architecture) -> int:
        """The cost of one architecture."""
        return round(expected_cost(self._tables, *one_hot(architecture)))


def _check(cfg: Any) -> None:
    if not isinstance(cfg, dict):
        raise UserError(
            f'ArchSearchHook.cost is {cfg!r}, but must be None or a dict with '
            'target, such as dict(target=100e9).'
        )
    for key in cfg:
        if key not in _DEFAULTS:
            raise UserError(
                f'ArchSearchHook.cost has no key {key!r}; it may have '
                f'{", ".join(_DEFAULTS)}.'
            )
    values = dict(_DEFAULTS, **cfg)
    for key in ('target', 'weight'):
        if not _is_positive(values[key], (int, float)):
            _refuse(key, values[key], 'a positive number')
    for key in ('filter_multiplier', 'stem_channels', 'in_channels'):
        if not _is_positive(values[key], int):
            _refuse(key, values[key], 'a positive integer')
    shape = values['shape']
    if (
        not isinstance(shape, (list, tuple))
        or len(shape) != 2
        or not all(_is_positive(n, int) for n in shape)
    ):
        _refuse('shape', shape, 'the height and width of an image')
    if values['quantity'] not in QUANTITIES:
        _refuse(
            'quantity',
            values['quantity'],
            ' or '.join(map(repr, QUANTITIES)),
        )


def _is_positive(value: Any, types: Any) -> bool:
    return (
        isinstance(value, types)
        and not isinstance(value, bool)
        and 0 < value < math.inf
    )


def _refuse(key: str, found: Any, allowed: str) -> None:
    raise UserError(
        f'ArchSearchHook.cost.{key} is {found!r}, but must be {allowed}.'
    )
