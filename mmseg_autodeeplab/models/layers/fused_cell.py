"""The relaxed cell of the search: all edges that leave a state at once."""

from collections.abc import Iterator, Sequence
from typing import Optional

import torch
from mmcv.cnn import build_norm_layer
from mmengine.dist import get_world_size
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...arch import block_edges
from ...errors import UserError
from .fused_kinds import FanOut, Layout
from .fused_norm import StateNorm
from .operations import with_passed


class FusedRelaxedCell(BaseModule):
    """:class:`RelaxedCell`, a whole fan-out of a state at a time.

    All edges out of one state read the same tensor, so one convolution with
    concatenated outputs serves them all, and one pooling; the scales that
    enter the node pass as one batch, and the output before the previous one,
    which is the same for each of them, passes once. Batch norm works per
    channel and is kept per scale. So all numbers are those of the reference
    form, gradients and running statistics too, up to the order of summation.

    The weights of all edges are stored together, ordered by state, then by
    block. The state dict is that of the reference form: checkpoints move
    between the two.

    Args:
        channels (int): Width of every block, C.
        num_blocks (int): B.
        has_prev (bool): Whether state 1, the output before the previous one,
            exists. If not, its edges contribute nothing and are not built.
        norm_cfg (dict): Norm of every convolution, BN or SyncBN.
        partial_channels (int): k; with k > 1, the edges of a block mix the
            first C / k channels of its states, the others pass by.
    """

    def __init__(
        self,
        channels: int,
        num_blocks: int,
        has_prev: bool,
        norm_cfg: dict,
        partial_channels: int,
    ) -> None:
        super().__init__()
        channels //= partial_channels
        self.channels = channels  # those that are mixed
        self.num_blocks = num_blocks
        # The edges out of each state; the last block has none.
        self.fan_outs = {
            state: [
                block_edges(block)[state]
                for block in range(max(state - 1, 0), num_blocks)
            ]
            for state in range(num_blocks + 1)
            if state != 1 or has_prev
        }
        num_edges = sum(map(len, self.fan_outs.values()))
        width = channels * num_edges
        self.layout = Layout()
        # Named by primitive and layer in the reference form. They hold weights
        # and are never called.
        self.convs = nn.ModuleDict()
        for primitive, layer, conv in self.layout.convs:
            self.convs[f'{primitive}_{layer}'] = nn.Conv2d(
                1 if conv.depthwise else channels,
                width,
                conv.kernel,
                bias=False,
            )
        num_norms = len(self.layout.norms)
        self.norm = build_norm_layer(norm_cfg, num_norms * width)[1]
        if (
            not isinstance(self.norm, (nn.BatchNorm2d, nn.SyncBatchNorm))
            or not self.norm.track_running_stats
            or self.norm.momentum is None
        ):
            raise UserError(
                "form='fused' of the supernet needs a norm_cfg of type BN or "
                f'SyncBN with running statistics, but found {norm_cfg}; take '
                "that, or form='reference'."
            )
        self.register_buffer(
            'stored_edges',
            torch.tensor(
                [e for edges in self.fan_outs.values() for e in edges]
            ),
            persistent=False,
        )
        self._register_state_dict_hook(_to_reference_form)
        self._register_load_state_dict_pre_hook(
            _from_reference_form, with_module=True
        )

    def forward(
        self, xs: Sequence[Tensor], prev: Optional[Tensor], weights: Tensor
    ) -> Sequence[Tensor]:
        """Run the cell on each incoming scale.

        Args:
            xs (Sequence[Tensor]): State 0 from each scale, (N, C, H, W).
            prev (Tensor, optional): State 1, same shape.
            weights (Tensor): Softmaxed alphas, (edges, 8).

        Returns:
            Sequence[Tensor]: All blocks, concatenated, (N, B * C, H, W), for
            each scale.
        """
        num_scales, batch = len(xs), len(xs[0])
        fan_outs = self._fan_outs(weights, num_scales)
        # Image by image, its scales side by side: (N * scales, C, ...) for
        # convolutions and (N, scales * C, ...) for norms are one memory.
        x = torch.stack(tuple(xs), dim=1).flatten(0, 1)
        width = self.channels
        sums, passed = fan_outs[0](x[:, :width]), x[:, width:]
        if prev is not None:
            sums = sums.unflatten(0, (batch, num_scales))
            sums = sums + fan_outs[1](prev[:, :width]).unsqueeze(1)
            sums = sums.flatten(0, 1)
            passed = passed.unflatten(0, (batch, num_scales))
            passed = (passed + prev[:, width:].unsqueeze(1)).flatten(0, 1)
        num_states = 1 if prev is None else 2
        blocks = [with_passed(sums[:, 0], passed / num_states)]
        for state in range(2, self.num_blocks + 1):
            x = blocks[-1]
            sums = sums[:, 1:] + fan_outs[state](x[:, :width])
            passed, num_states = passed + x[:, width:], num_states + 1
            blocks.append(with_passed(sums[:, 0], passed / num_states))
        if self.training:
            self._update_statistics(fan_outs.values(), num_scales)
        out = torch.stack(blocks, dim=1).flatten(1, 2)
        return out.unflatten(0, (batch, num_scales)).unbind(1)

    def _fan_outs(self, weights: Tensor, num_scales: int) -> dict:
        """Share weights and norms out to the states."""
        counts = [len(edges) for edges in self.fan_outs.values()]
        widths = [count * self.channels for count in counts]
        layout = self.layout
        num_norms = len(layout.norms)
        names = list(self.convs)
        convs = zip(*(self.convs[name].weight.split(widths) for name in names))
        norms = [
            [None] * len(counts)
            if tensor is None
            else tensor.split([num_norms * width for width in widths])
            for tensor in (
                self.norm.weight,
                self.norm.bias,
                self.norm.running_mean,
                self.norm.running_var,
            )
        ]
        synchronised = (
            isinstance(self.norm, nn.SyncBatchNorm) and get_world_size() > 1
        )
        weights = weights[self.stored_edges]
        factors = (
            weights[:, layout.weighted_columns]
            .t()
            .repeat_interleave(self.channels, dim=1)
        )
        return {
            state: FanOut(
                layout,
                shared_weights=shared,
                convs=dict(zip(names, conv)),
                norm=StateNorm(
                    layout,
                    *norm,
                    factors=factor,
                    eps=self.norm.eps,
                    num_scales=1 if state == 1 else num_scales,
                    training=self.training,
                    synchronised=synchronised,
                ),
            )
            for state, shared, factor, conv, *norm in zip(
                self.fan_outs,
                weights[:, layout.shared_columns].split(counts),
                factors.split(widths, dim=1),
                convs,
                *norms,
            )
        }

    @torch.no_grad()
    def _update_statistics(
        self, fan_outs: Sequence[FanOut], num_scales: int
    ) -> None:
        """Let the running statistics see one scale after the other."""
        mean, var = torch.cat(
            [
                fan_out.norm.statistics.expand(-1, num_scales, -1)
                for fan_out in fan_outs
            ],
            dim=2,
        )
        for scale in range(num_scales):
            self.norm.running_mean.lerp_(mean[scale], self.norm.momentum)
            self.norm.running_var.lerp_(var[scale], self.norm.momentum)
        self.norm.num_batches_tracked += num_scales


def _stored(cell: FusedRelaxedCell) -> Iterator[tuple[str, str, slice]]:
    """Where each tensor of the reference form is stored.

    Yields:
        tuple[str, str, slice]: Its key, that of the fused tensor, and its
        rows there; None where the fused tensor stands for all edges.
    """
    layout = cell.layout
    conv_start = norm_start = 0
    channels = cell.channels
    for edges in cell.fan_outs.values():
        for position, edge in enumerate(edges):
            start = (conv_start + position) * channels
            for name in cell.convs:
                primitive, layer = map(int, name.split('_'))
                module = layout.modules[primitive]
                yield (
                    f'edges.{edge}.{module}.{layer}.weight',
                    f'convs.{name}.weight',
                    slice(start, start + channels),
                )
            for index, (primitive, layer) in enumerate(layout.norms):
                start = norm_start + index * len(edges) + position
                start *= channels
                module = layout.modules[primitive]
                reference = f'edges.{edge}.{module}.{layer}'
                for name in ('weight', 'bias', 'running_mean', 'running_var'):
                    yield (
                        f'{reference}.{name}',
                        f'norm.{name}',
                        slice(start, start + channels),
                    )
                yield (
                    f'{reference}.num_batches_tracked',
                    'norm.num_batches_tracked',
                    None,
                )
        conv_start += len(edges)
        norm_start += len(layout.norms) * len(edges)


def _to_reference_form(cell, state_dict, prefix, local_metadata) -> None:
    """Replace the fused tensors of a state dict by views for each edge."""
    fused = {
        name: state_dict.pop(prefix + name)
        for name in {name for _, name, _ in _stored(cell)}
        if prefix + name in state_dict
    }
    reference = {
        prefix + key: fused[name] if rows is None else fused[name][rows]
        for key, name, rows in _stored(cell)
        if name in fused
    }
    state_dict.update(reference)


def _from_reference_form(cell, state_dict, prefix, *args) -> None:
    """Put the edges of a state dict together, where all are there."""
    parts = {}
    for key, fused, rows in _stored(cell):
        parts.setdefault(fused, []).append((prefix + key, rows))
    for fused, found in parts.items():
        if not all(key in state_dict for key, _ in found):
            continue
        tensors = [state_dict.pop(key) for key, _ in found]
        if found[0][1] is None:
            state_dict[prefix + fused] = tensors[0]
            continue
        order = sorted(range(len(found)), key=lambda i: found[i][1].start)
        state_dict[prefix + fused] = torch.cat([tensors[i] for i in order])
