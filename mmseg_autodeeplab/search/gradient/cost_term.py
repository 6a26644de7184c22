"""The cost of the derived network as a term of the loss."""

from collections.abc import Sequence
from functools import partial
from typing import Optional

import numpy as np
import torch
from mmseg.registry import TASK_UTILS
from torch import Tensor

from ... import arch
from ...models.layers import masked_softmax
from .terms import ArchTerm, check_arguments, is_number


def _is_positive(value, kinds=int):
    return is_number(value, kinds) and value > 0


def _is_size(value):
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    return is_pair and all(map(_is_positive, value))


NUMBER = partial(_is_positive, kinds=(int, float)), 'a positive number'
INTEGER = _is_positive, 'a positive integer'
QUANTITIES = ' or '.join(map(repr, arch.QUANTITIES))
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
        check_arguments(self, ALLOWED, values)
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
