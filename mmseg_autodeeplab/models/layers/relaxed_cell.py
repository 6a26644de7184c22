"""The relaxed cell of the search: one primitive, one edge at a time."""

from collections.abc import Sequence
from functools import partial
from typing import Optional

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from ...arch import Conv, block_edges, decodable, index_of
from .functional import resize, with_passed
from .fused_cell import FusedRelaxedCell
from .graphs import side_by_side
from .operations import ReLUConvNorm, build_operation


class MixedOperation(ModuleList):
    """All primitives of one edge, weighted (Eq. 2).

    ``none`` takes part in the softmax and adds nothing, so it has no module.
    """

    def __init__(self, channels: int, norm_cfg: dict) -> None:
        names = decodable()
        super().__init__(
            build_operation(name, channels, 1, norm_cfg) for name in names
        )
        self.weight_indices = [index_of(name) for name in names]

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Sum the primitives on ``x`` (N, C, H, W) by ``weights``."""
        weights = weights.unbind()
        return sum(
            weights[index] * operation(x)
            for index, operation in zip(self.weight_indices, self)
        )


class RelaxedCell(BaseModule):
    """Every block receives every state (Eq. 1).

    Args:
        channels, num_blocks (int): C, the width of every block, and B.
        num_scales (int): How many scales enter it.
        has_prev (bool): Whether state 1, the output before the previous one,
            exists. If not, its edges contribute nothing and are not built.
        norm_cfg (dict): Norm of every convolution.
        partial_channels (int): k; with k > 1, the edges of a block mix the
            first C / k channels of its states, the others pass by.
    """

    def __init__(
        self,
        channels: int,
        num_blocks: int,
        num_scales: int,
        has_prev: bool,
        norm_cfg: dict,
        partial_channels: int,
    ) -> None:
        super().__init__()
        self.num_blocks = num_blocks
        self.mixed_channels = channels // partial_channels
        # Keys are edge indices, the same in every cell and in the alphas.
        self.edges = torch.nn.ModuleDict()
        for block in range(num_blocks):
            for state, edge in enumerate(block_edges(block)):
                if state != 1 or has_prev:
                    self.edges[str(edge)] = MixedOperation(
                        self.mixed_channels, norm_cfg
                    )

    def forward(
        self,
        xs: Sequence[Tensor],
        prev: Optional[Tensor],
        weights: Tensor,
        betas: Sequence[Tensor],
    ) -> Tensor:
        """Give all blocks, (N, B * C, H, W), summed over incoming scales.

        ``xs`` are state 0 from each scale, (N, C, H, W), with the softmaxed
        ``betas`` of their transitions; ``prev`` is state 1, and ``weights``
        are the softmaxed alphas, (edges, primitives).
        """
        return sum(
            beta * self._run(x, prev, weights) for beta, x in zip(betas, xs)
        )

    def _run(self, x, prev, weights):
        states, width = [x, prev], self.mixed_channels
        for block in range(self.num_blocks):
            inputs = [
                (state, edge)
                for state, edge in zip(states, block_edges(block))
                if state is not None
            ]
            mixed = sum(
                self.edges[str(edge)](state[:, :width], weights[edge])
                for state, edge in inputs
            )
            passed = [state[:, width:] for state, _ in inputs]
            states.append(with_passed(mixed, passed))
        return torch.cat(states[2:], dim=1)


CELLS = {'fused': FusedRelaxedCell, 'reference': RelaxedCell}


class RelaxedNode(BaseModule):
    """One scale of one layer: its cell on every incoming scale (Eq. 6).

    The cell, that is its weights, is one for the node; each incoming scale
    enters through a projection of its own to the cell's width, and is
    normalised by itself: a stride-2 3x3 convolution from the finer scale, a
    1x1 convolution from the same one, upsampling and that from the coarser.

    Args:
        sources (dict[int, int]): Channels of each incoming scale, by what its
            transition adds to the level: 1 from the finer scale, 0 from the
            same, -1 from the coarser.
        prev_channels (int, optional): Channels of H^{l-2} at this scale;
            None where it does not exist.
        form (str): A key of ``CELLS``, how the cell is evaluated.
        align_corners (bool): Of the upsampling.
        channels, norm_cfg, kwargs: Of the cell.
    """

    def __init__(
        self,
        sources: dict[int, int],
        prev_channels: Optional[int],
        form: str,
        align_corners: bool,
        channels: int,
        norm_cfg: dict,
        **kwargs,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.steps = tuple(sources)
        self.entries = ModuleList(
            ReLUConvNorm(source, channels, [Conv(3)], norm_cfg, stride=2)
            if step == 1
            else ReLUConvNorm(source, channels, [Conv(1)], norm_cfg)
            for step, source in sources.items()
        )
        has_prev = prev_channels is not None
        self.prev_entry = (
            ReLUConvNorm(prev_channels, channels, [Conv(1)], norm_cfg)
            if has_prev
            else None
        )
        self.cell = CELLS[form](
            channels,
            num_scales=len(sources),
            has_prev=has_prev,
            norm_cfg=norm_cfg,
            **kwargs,
        )

    def forward(
        self,
        sources: Sequence[Tensor],
        prev: Optional[Tensor],
        alphas: Tensor,
        betas: Sequence[Tensor],
        size: Sequence[int],
    ) -> Tensor:
        """Give (N, B * channels, H, W) at this scale, of this size.

        ``sources`` are H^{l-1} at each incoming scale, with the softmaxed
        ``betas`` of their transitions; ``prev`` is H^{l-2} at this one.
        """
        calls = [
            partial(self._enter, *args, size)
            for args in zip(self.entries, self.steps, sources)
        ]
        if self.prev_entry is not None:
            calls.append(partial(self.prev_entry, prev))
        xs = [*side_by_side(*calls)]
        prev = xs.pop() if self.prev_entry is not None else None
        return self.cell(xs, prev, alphas, betas)

    def _enter(self, entry, step, source, size):
        if step == -1:
            source = resize(source, size, self.align_corners)
        return entry(source)
