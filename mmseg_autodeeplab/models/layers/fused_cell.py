"""The relaxed cell of the search: all edges that leave a state at once."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Optional

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...arch import PRIMITIVES, block_edges
from ...errors import UserError
from .functional import with_passed
from .fused_kinds import FanOut, Layout
from .graphs import Split


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
    between the two. Arguments are those of the reference form, too, but that
    ``norm_cfg`` has to be BN or SyncBN.
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
        edges = [edge for edges in self.fan_outs.values() for edge in edges]
        width = channels * len(edges)
        self.layout = Layout()
        # Named by primitive and layer in the reference form. They hold weights
        # and are never called.
        self.convs = nn.ModuleDict()
        for primitive, layer, conv in self.layout.convs:
            inputs = 1 if conv.depthwise else channels
            self.convs[f'{primitive}_{layer}'] = nn.Conv2d(
                inputs, width, conv.kernel, bias=False
            )
        num_norms = len(self.layout.norms)
        self.norm = build_norm_layer(norm_cfg, num_norms * width)[1]
        # A subclass of BN may compute otherwise; that of SyncBN is MMEngine's.
        is_known = type(self.norm) is nn.BatchNorm2d or isinstance(
            self.norm, nn.SyncBatchNorm
        )
        if (
            not is_known
            or not self.norm.track_running_stats
            or self.norm.momentum is None
        ):
            raise UserError(
                "form='fused' of the supernet needs a norm_cfg of type BN or "
                f'SyncBN with running statistics, but found {norm_cfg}; take '
                "that, or form='reference'."
            )
        # Each state passes as often as it has scales.
        self.num_scales = {
            state: 1 if state == 1 else num_scales for state in self.fan_outs
        }
        index = torch.cat([*self._weight_indices()])
        self.register_buffer('weight_indices', index, persistent=False)
        self._register_state_dict_hook(_to_reference_form)
        self._register_load_state_dict_pre_hook(
            _from_reference_form, with_module=True
        )

    def forward(
        self,
        xs: Sequence[Tensor],
        prev: Optional[Tensor],
        weights: Tensor,
        betas: Sequence[Tensor],
    ) -> Tensor:
        """Run the cell on each incoming scale, as the reference form does."""
        num_scales, batch = len(xs), len(xs[0])
        fan_outs = self._fan_outs(weights)
        # Image by image, its scales side by side: (N * scales, C, ...) for
        # convolutions and (N, scales * C, ...) for norms are one memory.
        x = torch.stack(tuple(xs), dim=1).flatten(0, 1)
        width = self.channels
        sums, passed = fan_outs[0](x[:, :width]), [x[:, width:]]
        if prev is not None:
            sums = sums.unflatten(0, (batch, num_scales))
            sums = sums + fan_outs[1](prev[:, :width]).unsqueeze(1)
            sums = sums.flatten(0, 1)
            passed.append(prev[:, width:].repeat_interleave(num_scales, 0))
        blocks = []
        for state in range(2, self.num_blocks + 2):
            # The first edge ends in the block that is complete now.
            mixed, *sums = sums.split([1, sums.shape[1] - 1], dim=1)
            x = with_passed(mixed.squeeze(1).contiguous(), passed)
            blocks.append(x)
            if state in fan_outs:
                sums = sums[0] + fan_outs[state](x[:, :width])
                passed.append(x[:, width:])
        if self.training:
            self._update_statistics(fan_outs.values(), num_scales)
        out = torch.stack(blocks, dim=1).flatten(1, 2)
        betas = torch.stack(tuple(betas)).to(out.dtype).view(-1, 1, 1, 1)
        return (betas * out.unflatten(0, (batch, num_scales))).sum(1)

    def _weight_indices(self) -> Iterator[Tensor]:
        """Where the alphas of each state are, as :class:`FanOut` has them."""
        edges = [torch.tensor(edges) for edges in self.fan_outs.values()]
        rows = [row * len(PRIMITIVES) for row in edges]
        for row in rows:
            yield (
                row[:, None] + torch.tensor([*self.layout.shared])
            ).flatten()
        for row, scales in zip(rows, self.num_scales.values()):
            columns = torch.tensor([*self.layout.weighted])
            index = (columns[:, None] + row).flatten()
            yield index.repeat_interleave(self.channels).repeat(scales)

    def _fan_outs(self, weights: Tensor) -> dict[int, FanOut]:
        """Share weights and norms out to the states."""
        layout, norm = self.layout, self.norm
        counts = [len(edges) for edges in self.fan_outs.values()]
        widths = [count * self.channels for count in counts]
        scales = self.num_scales.values()
        sizes = [count * len(layout.shared) for count in counts]
        sizes += [
            width * number * len(layout.weighted)
            for width, number in zip(widths, scales)
        ]
        weights = weights.flatten()[self.weight_indices]
        weights = Split.apply(weights, sizes)
        shared, factors = weights[: len(counts)], weights[len(counts) :]
        convs = zip(
            *(Split.apply(c.weight, widths) for c in self.convs.values())
        )
        # In training, norms take the statistics of the batch.
        stored = norm.running_mean, norm.running_var
        running = (None, None) if self.training else stored
        rows = [len(layout.norms) * width for width in widths]
        norms = zip(
            *(
                [None] * len(counts) if tensor is None else tensor.split(rows)
                for tensor in (norm.weight, norm.bias, *running)
            )
        )
        sizes = [
            number * len(group) * width
            for number, width in zip(scales, widths)
            for group in layout.groups
        ]
        statistics = norm.running_mean.new_zeros(2, sum(sizes))
        statistics = iter(statistics.split(sizes, dim=1))
        return {
            state: FanOut(
                self, *arguments, *(next(statistics) for _ in layout.groups)
            )
            for state, *arguments in zip(
                self.fan_outs, scales, counts, shared, factors, convs, norms
            )
        }

    @torch.no_grad()
    def _update_statistics(
        self, fan_outs: Iterable[FanOut], num_scales: int
    ) -> None:
        """Let the running statistics see one scale after the other."""
        mean, var = torch.cat(
            [
                tensor.expand(-1, num_scales, -1)
                for fan_out in fan_outs
                for tensor in fan_out.statistics_of_norms()
            ],
            dim=2,
        )
        for scale in range(num_scales):
            self.norm.running_mean.lerp_(mean[scale], self.norm.momentum)
            self.norm.running_var.lerp_(var[scale], self.norm.momentum)
        self.norm.num_batches_tracked += num_scales


def _stored(cell: FusedRelaxedCell) -> dict[str, list[str]]:
    """For each fused tensor, those of the reference form, end to end."""
    modules, norms = cell.layout.modules, cell.layout.norms
    stored = {
        f'convs.{primitive}_{layer}.weight': [
            f'edges.{edge}.{modules[primitive]}.{layer}.weight'
            for edges in cell.fan_outs.values()
            for edge in edges
        ]
        for primitive, layer, _ in cell.layout.convs
    }
    for name in cell.norm.state_dict():
        stored[f'norm.{name}'] = [
            f'edges.{edge}.{modules[primitive]}.{layer}.{name}'
            for edges in cell.fan_outs.values()
            for primitive, layer in norms
            for edge in edges
        ]
    return stored


def _to_reference_form(cell, state_dict, prefix, local_metadata):
    """Replace the fused tensors of a state dict by views for each edge."""
    for fused, keys in _stored(cell).items():
        tensor = state_dict.pop(prefix + fused)
        # A count of batches is that of all edges.
        parts = tensor.split(cell.channels) if tensor.dim() else repeat(tensor)
        state_dict.update(zip((prefix + key for key in keys), parts))


def _from_reference_form(cell, state_dict, prefix, *args):
    """Put the edges of a state dict together, where all are there."""
    for fused, keys in _stored(cell).items():
        keys = [prefix + key for key in keys]
        if all(key in state_dict for key in keys):
            parts = [state_dict.pop(key) for key in keys]
            state_dict[prefix + fused] = (
                torch.cat(parts) if parts[0].dim() else parts[0]
            )
