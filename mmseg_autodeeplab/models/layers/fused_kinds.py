"""How the fused form evaluates each kind of primitives."""

from functools import partial

import torch
import torch.nn.functional as F
from mmcv.cnn import is_norm
from mmengine.dist import get_world_size
from torch import Tensor, nn

from ...arch import PRIMITIVES
from ...errors import UserError
from .fused_functions import (
    Convolution,
    Join,
    Separable,
    WeightedSum,
    sync_batch_norm,
)
from .graphs import side_by_side


class Layout:
    """What the table of primitives means for a cell, as it is when built.

    Primitives are named by their index in the table, layers by that in the
    module of the reference form.

    Attributes:
        modules (dict): The number of each primitive's module on an edge.
        shared, weighted (dict): Rows of the primitives without weights and of
            those with some.
        convs (list): Primitive, layer and ``Conv`` of each convolution.
        norms (list): Primitive and layer of each norm, in stored order.
        groups (list): Norms that are evaluated together: each by itself, but
            the last ones of all primitives, which are the last group.
    """

    def __init__(self) -> None:
        rows = {
            index: row
            for index, row in enumerate(PRIMITIVES.values())
            if row.is_decodable
        }
        for row in rows.values():
            if row.kind not in SHARED and row.kind not in WEIGHTED:
                raise UserError(
                    "form='fused' of the supernet cannot evaluate the "
                    f'primitive {row.name!r} of kind {row.kind!r}; take '
                    "form='reference', or add the kind to "
                    'models/layers/fused_kinds.py.'
                )
        self.modules = {index: module for module, index in enumerate(rows)}
        self.shared, self.weighted = (
            {i: row for i, row in rows.items() if row.kind in kinds}
            for kinds in (SHARED, WEIGHTED)
        )
        self.convs = []
        for index, row in self.weighted.items():
            layer = 1  # behind the ReLU
            for conv in row.convs:
                self.convs.append((index, layer, conv))
                layer += 3 if conv.norm else 1  # and the next ReLU
        self.norms = [(i, layer + 1) for i, layer, c in self.convs if c.norm]
        last = tuple(dict(self.norms).items())
        self.groups = [(n,) for n in self.norms if n not in last] + [last]


class FanOut:
    """All edges that leave one state, of which there are n, in one pass.

    ``shared_weights`` (n * number, ) are those of primitives without weights;
    ``factors``, of the others, are those of the channels behind their last
    norms; ``convs`` are kernels of n * C rows; ``norms`` are weight, bias, and
    in evaluation mean and variance, each (norms * n * C, ) or None. In
    training, ``statistics`` of each group of norms, (2, scales * norms * n *
    C), become mean and variance of the batch.
    """

    def __init__(
        self,
        cell,
        num_scales,
        fan_out,
        shared_weights,
        factors,
        convs,
        norms,
        *statistics,
    ) -> None:
        self.layout = cell.layout
        self.training = cell.training
        self.eps = cell.norm.eps
        # What sync_bn='mmcv' makes of a norm is none of PyTorch's, either.
        self.synchronised = (
            self.training
            and not is_norm(cell.norm, exclude=nn.SyncBatchNorm)
            and get_world_size() > 1
        )
        self.num_scales = num_scales
        self.fan_out = fan_out
        self.shared_weights = shared_weights
        self.factors = factors
        self.convs = dict(zip(cell.convs, convs))
        self.norms = norms
        self.statistics = dict(zip(self.layout.groups, statistics))

    def __call__(self, x: Tensor) -> Tensor:
        """Give (N, n, C, H, W), what each edge contributes."""
        positive = x.relu()
        each = positive
        if self.fan_out > 1:
            each = positive.repeat(1, self.fan_out, 1, 1)
        shared, *parts = side_by_side(
            partial(self._shared, x),
            *(
                partial(
                    WEIGHTED[row.kind], self, positive, each, i, row.kernel
                )
                for i, row in self.layout.weighted.items()
            ),
        )
        out = self.norm(Join.apply(*parts), self.layout.groups[-1])
        out = out.unflatten(1, (len(parts), self.fan_out, -1)).sum(1)
        return WeightedSum.apply(
            out.flatten(2), self.shared_weights.view(self.fan_out, -1), shared
        ).view_as(out)

    def _shared(self, x):
        """Those without weights are the same for every edge."""
        rows = self.layout.shared.values()
        results = [SHARED[row.kind](x, row.kernel) for row in rows]
        return torch.stack(results, dim=1).flatten(2)

    def norm(self, x: Tensor, group: tuple) -> Tensor:
        """Normalise (N * scales, norms * n * C, H, W), each scale by itself.

        The weight of a primitive comes in as the factor of its last norm: as
        a factor of the output it would have to keep that for its gradient.
        """
        weight, bias, mean, var = (
            None if tensor is None else self._of_group(tensor, group)
            for tensor in self.norms
        )
        if group == self.layout.groups[-1]:
            weight = self.factors if weight is None else weight * self.factors
            bias = None if bias is None else bias * self.factors
        if self.training:
            mean, var = self.statistics[group]
        scales = self.num_scales
        # One image in channels_last that is viewed in its own shape has
        # strides with which PyTorch's gradient of batch norm is wrong.
        y = x if scales == 1 else x.reshape(-1, len(mean), *x.shape[2:])
        args = y, mean, var, weight, bias
        if self.synchronised:
            out = sync_batch_norm(*args, eps=self.eps)
        else:
            out = F.batch_norm(*args, self.training, momentum=1, eps=self.eps)
        return out if scales == 1 else out.view_as(x)

    def _of_group(self, tensor, group):
        """Its part of a tensor of all norms, once for each scale."""
        parts = tensor.view(len(self.layout.norms), -1)
        parts = [parts[self.layout.norms.index(norm)] for norm in group]
        return torch.cat(parts * self.num_scales)

    def statistics_of_norms(self) -> list[Tensor]:
        """Mean and variance in each norm, (2, scales, n * C)."""
        found = {}
        for group, tensor in self.statistics.items():
            tensor = tensor.view(2, self.num_scales, len(group), -1)
            found.update(zip(group, tensor.unbind(2)))
        return [found[norm] for norm in self.layout.norms]


def _sep_conv(edges, x, each, primitive, kernel):
    def separable(x, layer):
        depthwise, pointwise = (
            edges.convs[f'{primitive}_{i}'] for i in (layer, layer + 1)
        )
        return Separable.apply(x, depthwise, pointwise, edges.fan_out)

    y = edges.norm(separable(each, 1), ((primitive, 3),))
    if y.device.type == 'cpu' and kernel >= 5:
        # Faster there: the gradient of large depthwise kernels.
        y = y.contiguous(memory_format=torch.channels_last).relu_()
    else:
        # Not in place: in a view, that costs autograd three copies.
        y = y.relu()
    return separable(y, 5)


def _atrous_conv(edges, x, each, primitive, kernel):
    return Convolution.apply(x, edges.convs[f'{primitive}_1'], 2)


def _max_pool(x, kernel):
    return F.max_pool2d(x, kernel, stride=1, padding=kernel // 2)


def _avg_pool(x, kernel):
    return F.avg_pool2d(
        x, kernel, stride=1, padding=kernel // 2, count_include_pad=False
    )


def _skip(x, kernel):
    return x


# All that the fused form has to know of a kind, at stride 1. What has no
# weights is evaluated once for all edges: (x, kernel) to a tensor like x.
SHARED = {'max_pool': _max_pool, 'avg_pool': _avg_pool, 'skip': _skip}
# What has some: (edges, x, each, primitive, kernel), with x behind the first
# ReLU, and n times behind itself as each, to (N, n * C, H, W) in front of the
# last norm. Layers are counted as in the module that is built: a ReLU, the
# convolutions of the table up to a norm, that norm, and so on.
WEIGHTED = {'sep_conv': _sep_conv, 'atrous_conv': _atrous_conv}
