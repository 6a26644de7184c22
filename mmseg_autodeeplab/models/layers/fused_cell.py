"""The relaxed cell of the search: all edges that leave a state at once."""

from collections.abc import Iterator, Sequence
from typing import Optional

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.dist import get_world_size
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...arch import PRIMITIVES, block_edges
from ...errors import UserError
from .operations import with_passed
from .separable import Separable
from .sync_norm import sync_batch_norm

MAX_POOL, AVG_POOL, SKIP, SEP_3, SEP_5, ATROUS_3, ATROUS_5 = range(
    1, len(PRIMITIVES)
)
SEP_CONVS = ((SEP_3, 3), (SEP_5, 5))
ATROUS_CONVS = ((ATROUS_3, 3), (ATROUS_5, 5))
# Each norm of an edge: its primitive and its layer there, in stored order.
NORMS = (
    (SEP_3, 3),
    (SEP_3, 7),
    (SEP_5, 3),
    (SEP_5, 7),
    (ATROUS_3, 2),
    (ATROUS_5, 2),
)
# Those behind which the weight of the primitive applies.
LAST_NORMS = ((SEP_3, 7), (SEP_5, 7), (ATROUS_3, 2), (ATROUS_5, 2))


class FusedRelaxedCell(BaseModule):
    """:class:`RelaxedCell`, a whole fan-out of a state at a time.

    All edges out of one state read the same tensor, so one convolution with
    concatenated outputs serves them all, and one pooling; the scales that
    enter the node pass as one batch, and the output before the previous one,
    which is the same for each of them, passes once. Batch norm works per
    channel and is kept per scale. So all numbers are those of the clear form,
    gradients and running statistics too, up to the order of summation.

    The weights of all edges are stored together, ordered by state, then by
    block. The state dict is that of the clear form: checkpoints move between
    the two.

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
        # Named by primitive and layer in the clear form. They hold weights
        # and are never called.
        self.convs = nn.ModuleDict()
        for primitive, kernel_size in SEP_CONVS:
            for layer in (1, 5):
                self.convs[f'{primitive}_{layer}'] = nn.Conv2d(
                    width, width, kernel_size, groups=width, bias=False
                )
                self.convs[f'{primitive}_{layer + 1}'] = nn.Conv2d(
                    width, width, 1, groups=num_edges, bias=False
                )
        for primitive, kernel_size in ATROUS_CONVS:
            self.convs[f'{primitive}_1'] = nn.Conv2d(
                channels, width, kernel_size, bias=False
            )
        self.norm = build_norm_layer(norm_cfg, len(NORMS) * width)[1]
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
        self._register_state_dict_hook(_to_clear_form)
        self._register_load_state_dict_pre_hook(
            _from_clear_form, with_module=True
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
        names = list(self.convs)
        convs = zip(*(self.convs[name].weight.split(widths) for name in names))
        norms = [
            [None] * len(counts)
            if tensor is None
            else tensor.split([len(NORMS) * width for width in widths])
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
            weights[:, SEP_3:].t().repeat_interleave(self.channels, dim=1)
        )
        return {
            state: _FanOut(
                pool_weights=pools,
                convs=dict(zip(names, conv)),
                norm=_StateNorm(
                    *norm,
                    factors=factor,
                    eps=self.norm.eps,
                    num_scales=1 if state == 1 else num_scales,
                    training=self.training,
                    synchronised=synchronised,
                ),
            )
            for state, pools, factor, conv, *norm in zip(
                self.fan_outs,
                weights[:, MAX_POOL : SKIP + 1].split(counts),
                factors.split(widths, dim=1),
                convs,
                *norms,
            )
        }

    @torch.no_grad()
    def _update_statistics(
        self, fan_outs: Sequence['_FanOut'], num_scales: int
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


class _FanOut:
    """All edges that leave one state, of which there are n."""

    def __init__(
        self,
        pool_weights: Tensor,
        convs: dict[str, Tensor],
        norm: '_StateNorm',
    ) -> None:
        self.pool_weights = pool_weights  # (n, 3)
        self.convs = convs  # n * C rows each
        self.norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        """Give (N, n, C, H, W), what each edge contributes."""
        fan_out = len(self.pool_weights)
        out = self._pools(x).flatten(1, 2)
        x = x.relu()
        for primitive, kernel_size in SEP_CONVS:
            out = out + self._sep_conv(x, primitive, kernel_size)
        for primitive, kernel_size in ATROUS_CONVS:
            y = F.conv2d(
                x,
                self.convs[f'{primitive}_1'],
                padding=kernel_size - 1,
                dilation=2,
            )
            out = out + self.norm(y, primitive, 2)
        return out.unflatten(1, (fan_out, -1))

    def _pools(self, x: Tensor) -> Tensor:
        """Those without weights are the same for every edge."""
        pooled = torch.stack(
            (
                F.max_pool2d(x, 3, stride=1, padding=1),
                F.avg_pool2d(
                    x, 3, stride=1, padding=1, count_include_pad=False
                ),
                x,
            ),
            dim=1,
        )
        # Not matmul, which copies ``pooled`` where the weights want gradients.
        weights = self.pool_weights.expand(len(x), -1, -1)
        out = torch.bmm(weights, pooled.flatten(2))
        return out.unflatten(2, x.shape[1:])

    def _sep_conv(self, x: Tensor, primitive: int, kernel_size: int) -> Tensor:
        fan_out = len(self.pool_weights)
        depthwise = self.convs[f'{primitive}_1']
        pointwise = self.convs[f'{primitive}_2']
        y = Separable.apply(x, depthwise, pointwise, fan_out)
        y = self.norm(y, primitive, 3)
        if y.device.type == 'cpu' and kernel_size == 5:
            # Faster there: the gradient of large depthwise kernels.
            y = y.contiguous(memory_format=torch.channels_last)
        y = y.relu_()
        depthwise = self.convs[f'{primitive}_5']
        pointwise = self.convs[f'{primitive}_6']
        y = Separable.apply(y, depthwise, pointwise, fan_out)
        return self.norm(y, primitive, 7)


class _StateNorm:
    """The norms of all edges that leave one state, each scale by itself.

    The weight of a primitive comes in as the factor of its last norm: as a
    factor of the output it would have to keep that for its gradient.

    Attributes:
        statistics (Tensor): Mean and variance of this batch,
            (2, scales, 6 * n * C), once every norm was called.
    """

    def __init__(
        self,
        weight,
        bias,
        running_mean,
        running_var,
        factors,
        eps,
        num_scales,
        training,
        synchronised,
    ) -> None:
        self.weight = weight
        self.bias = bias
        self.running = (running_mean, running_var)
        self.eps = eps
        self.training = training
        self.synchronised = synchronised
        self.num_scales = num_scales
        if training:
            factors = factors.repeat(1, num_scales)
        # By primitive; each is (n * C, ), in training for every scale.
        self.factors = dict(zip(range(SEP_3, ATROUS_5 + 1), factors))
        self._batch = running_mean.new_zeros(
            2, len(NORMS), num_scales * len(running_mean) // len(NORMS)
        )

    @property
    def statistics(self) -> Tensor:
        by_scale = self._batch.unflatten(2, (self.num_scales, -1))
        return by_scale.transpose(1, 2).flatten(2)

    def __call__(self, x: Tensor, primitive: int, layer: int) -> Tensor:
        """Normalise (N * scales, n * C, H, W)."""
        index = NORMS.index((primitive, layer))
        width = x.shape[1]
        rows = slice(index * width, (index + 1) * width)
        weight, bias = (
            None if tensor is None else tensor[rows]
            for tensor in (self.weight, self.bias)
        )
        if self.training and weight is not None:
            weight = weight.repeat(self.num_scales)
            bias = bias.repeat(self.num_scales)
        if (primitive, layer) in LAST_NORMS:
            factor = self.factors[primitive]
            weight = factor if weight is None else weight * factor
            bias = None if bias is None else bias * factor
        if not self.training:
            mean, var = (tensor[rows] for tensor in self.running)
            return F.batch_norm(x, mean, var, weight, bias, eps=self.eps)
        mean, var = self._batch[:, index]
        args = (
            x.reshape(-1, self.num_scales * width, *x.shape[2:]),
            mean,
            var,
            weight,
            bias,
        )
        if self.synchronised:
            out = sync_batch_norm(*args, eps=self.eps)
        else:
            out = F.batch_norm(
                *args, training=True, momentum=1.0, eps=self.eps
            )
        return out.view_as(x)


def _stored(cell: FusedRelaxedCell) -> Iterator[tuple[str, str, slice]]:
    """Where each tensor of the clear form is stored.

    Yields:
        tuple[str, str, slice]: Its key, that of the fused tensor, and its
        rows there; None where the fused tensor stands for all edges.
    """
    conv_start = norm_start = 0
    channels = cell.channels
    for edges in cell.fan_outs.values():
        for position, edge in enumerate(edges):
            start = (conv_start + position) * channels
            for name in cell.convs:
                primitive, layer = map(int, name.split('_'))
                yield (
                    f'edges.{edge}.{primitive - 1}.{layer}.weight',
                    f'convs.{name}.weight',
                    slice(start, start + channels),
                )
            for index, (primitive, layer) in enumerate(NORMS):
                start = norm_start + index * len(edges) + position
                start *= channels
                clear = f'edges.{edge}.{primitive - 1}.{layer}'
                for name in ('weight', 'bias', 'running_mean', 'running_var'):
                    yield (
                        f'{clear}.{name}',
                        f'norm.{name}',
                        slice(start, start + channels),
                    )
                yield (
                    f'{clear}.num_batches_tracked',
                    'norm.num_batches_tracked',
                    None,
                )
        conv_start += len(edges)
        norm_start += len(NORMS) * len(edges)


def _to_clear_form(cell, state_dict, prefix, local_metadata) -> None:
    """Replace the fused tensors of a state dict by views for each edge."""
    fused = {
        name: state_dict.pop(prefix + name)
        for name in {name for _, name, _ in _stored(cell)}
        if prefix + name in state_dict
    }
    clear = {
        prefix + key: fused[name] if rows is None else fused[name][rows]
        for key, name, rows in _stored(cell)
        if name in fused
    }
    state_dict.update(clear)


def _from_clear_form(cell, state_dict, prefix, *args) -> None:
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
