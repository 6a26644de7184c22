"""The relaxed network of the search."""

from functools import partial

import torch
from mmengine.model import BaseModule, ModuleList
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, OptMultiConfig
from torch import Tensor, nn

from ...arch import (
    DIRECTIONS,
    MIN_LAYERS,
    PRIMITIVES,
    RATES,
    AutoDeepLabArchitecture,
    decode,
    incoming,
    levels_at,
    num_edges,
    one_hot,
    transition_mask,
)
from ...errors import UserError
from ..layers import (
    CELLS,
    RelaxedNode,
    Stem,
    TrainingGraphs,
    check_training_size,
    checkpointed,
    level_sizes,
    masked_softmax,
    side_by_side,
)


@MODELS.register_module()
class AutoDeepLabSupernet(BaseModule):
    """Supernet of `Auto-DeepLab <https://arxiv.org/abs/1901.02985>`_.

    A trellis of ``num_layers`` x 4 scales (Eq. 1 to 8), of the nodes that the
    stem reaches. ``alphas``, one set for all cells, and ``betas`` need no
    gradient outside of the architecture step, so that the optimiser of the
    weights and data-parallel wrappers never see them.

    Keys of the state dict, in either form: ``stem.*``, and for a node
    ``layers.LAYER.LEVEL.`` with ``entries.N.*`` (incoming scales, finest
    first), ``prev_entry.*`` and ``cell.edges.EDGE.PRIMITIVE.N.*``, with edges
    counted as in ``alphas`` and primitives without ``none``.

    Args:
        num_layers, num_blocks (int): L, at least 3, and blocks per cell, B.
        filter_multiplier (int): F; a node at stride s has B * F * s / 4
            channels.
        in_channels, stem_channels (int): Of the image; at stride 2.
        norm_cfg, align_corners: Of every norm, and of every upsampling.
        form (str): How the cells are evaluated: ``'fused'``, all edges out of
            a state at once, or ``'reference'``, one operation after the
            other, as the equations say it. Numbers and checkpoints are the
            same. A primitive of a new kind needs ``'reference'``.
        with_cp (bool): Run every node but the coarsest ones again in
            backward, which saves memory for time.
        partial_channels (int): k. With k > 1 the primitives see 1 / k of the
            channels, and the others pass by, averaged: less memory and time,
            and a departure from the paper (`PC-DARTS
            <https://arxiv.org/abs/1907.05737>`_, edges normalised uniformly).
        graphs (bool): Train by CUDA graphs, on a GPU and with inputs of one
            size: the numbers are the same, and the time is no longer that of
            launching the operations. See :class:`TrainingGraphs`.
        init_cfg (dict, optional): PyTorch's own initialisation by default. One
            that counts outputs, as Kaiming's and Xavier's do by default, sees
            those of all edges of a cell in the fused form, and makes their
            weights smaller.

    Attributes:
        alphas (nn.Parameter): (edges, primitives), before the softmax.
        betas (nn.Parameter): (L, 4, 3), before the softmax, ``[layer, source
            level, direction]``; what does not exist has no gradient.
        out_channels (list[int]): Channels of the four outputs.
    """

    def __init__(
        self,
        num_layers: int = 12,
        num_blocks: int = 5,
        filter_multiplier: int = 8,
        in_channels: int = 3,
        stem_channels: int = 64,
        norm_cfg: ConfigType = dict(type='BN', affine=False),
        align_corners: bool = True,
        form: str = 'fused',
        with_cp: bool = False,
        partial_channels: int = 1,
        graphs: bool = False,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_layers < MIN_LAYERS or num_blocks < 1:
            raise UserError(
                f'num_layers is {num_layers} and num_blocks {num_blocks}, but '
                f'a search needs num_layers >= {MIN_LAYERS}, so that every '
                'scale exists at the end, and num_blocks >= 1.'
            )
        if form not in CELLS:
            raise UserError(
                f'form is {form!r}, but a supernet is evaluated in the form '
                f'{" or ".join(map(repr, CELLS))}.'
            )
        if partial_channels < 1 or filter_multiplier % partial_channels:
            raise UserError(
                f'partial_channels is {partial_channels}, but has to be 1 or '
                f'more and to divide filter_multiplier, {filter_multiplier}.'
            )
        self.with_cp = with_cp
        self.graphs = TrainingGraphs(type(self)._run) if graphs else None
        self.in_channels = in_channels
        self.alphas = _arch_parameter(num_edges(num_blocks), len(PRIMITIVES))
        self.betas = _arch_parameter(num_layers, len(RATES), len(DIRECTIONS))
        mask = torch.from_numpy(transition_mask(num_layers))
        self.register_buffer('transitions', mask, persistent=False)

        self.stem = Stem(in_channels, stem_channels, 2, norm_cfg)
        widths = [filter_multiplier * rate // RATES[0] for rate in RATES]
        self.out_channels = [num_blocks * width for width in widths]

        # Channels of every node, layer by layer; the stem is layer -1.
        before, current = {}, {0: 2 * stem_channels}
        self.layers = ModuleList()
        for layer in range(num_layers):
            nodes = [
                RelaxedNode(
                    {DIRECTIONS[d]: current[s] for s, d in incoming(layer, n)},
                    before.get(n),
                    form,
                    align_corners,
                    channels=widths[n],
                    num_blocks=num_blocks,
                    norm_cfg=norm_cfg,
                    partial_channels=partial_channels,
                )
                for n in levels_at(layer)
            ]
            self.layers.append(ModuleList(nodes))
            before = current
            current = dict(zip(levels_at(layer), self.out_channels))

    def arch_parameters(self) -> list[nn.Parameter]:
        """What the architecture step of the search optimises."""
        return [self.alphas, self.betas]

    def architecture(
        self, score: str = 'probability'
    ) -> AutoDeepLabArchitecture:
        """Decode the present alphas and betas; ValueError if not finite.

        ``score``, of a path, is one of ``arch.SCORES``, with an end or not.
        """
        alphas, betas = (
            p.detach().float().cpu().numpy() for p in self.arch_parameters()
        )
        return decode(alphas, betas, score)

    def one_hot(
        self, architecture: AutoDeepLabArchitecture
    ) -> dict[str, Tensor]:
        """Tensors, by their names here, that leave one architecture alone.

        Under them the softmax of the alphas is exactly 1 at its operations
        and at ``none`` on all other edges, and ``transitions`` has nothing
        but the path. No softmax of betas could say so: a source off the path
        would give its shares to others, where H^{l-2} is not zero.
        """
        alphas, betas = map(self.alphas.new_tensor, one_hot(architecture))
        return dict(
            # Finite, and as far below 0 as exp() of any precision needs.
            alphas=alphas.log().clamp(min=-1e4),
            betas=torch.zeros_like(betas),
            transitions=betas > 0,
        )

    def normalized_betas(self) -> Tensor:
        """Softmax over transitions out of a source (Eq. 7, 8), (L, 4, 3)."""
        return masked_softmax(self.betas, self.transitions)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Run all paths at once on images (N, in_channels, H, W).

        Returns:
            tuple[Tensor]: The last layer at strides 4, 8, 16, 32, each
            (N, B * F * s / 4, ceil(H / s), ceil(W / s)).
        """
        if self.training:
            check_training_size(x.shape[2:])
            if self.graphs is not None and torch.is_grad_enabled():
                return self.graphs(self, x)
        return self._run(x)

    def _run(self, x):
        sizes = level_sizes(x.shape[2:])
        alphas = self.alphas.softmax(-1)
        # At once: each index of its own has a gradient of this size.
        betas = [
            [row.unbind() for row in rows.unbind()]
            for rows in self.normalized_betas().unbind()
        ]
        _, stem = self.stem(x)
        before, current = {}, {0: stem}
        with_cp = self.with_cp and torch.is_grad_enabled()
        for layer, nodes in enumerate(self.layers):
            calls = []
            for level, node in enumerate(nodes):
                edges = incoming(layer, level)
                args = (
                    [current[source] for source, _ in edges],
                    before.get(level),
                    alphas,
                    [betas[layer][s][d] for s, d in edges],
                    sizes[level],
                )
                # The coarsest maps are a tenth of all values, but take almost
                # a third of the multiply-adds to compute again.
                if with_cp and level < len(RATES) - 1:
                    calls.append(partial(checkpointed, node, *args))
                else:
                    calls.append(partial(node, *args))
            out = dict(enumerate(side_by_side(*calls)))
            before, current = current, out
        return tuple(current.values())


def _arch_parameter(*shape: int) -> nn.Parameter:
    """Initial values 0.001 * N(0, 1) (Sec. 4.1)."""
    return nn.Parameter(1e-3 * torch.randn(shape), requires_grad=False)
