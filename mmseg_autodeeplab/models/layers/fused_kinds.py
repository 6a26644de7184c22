"""How the fused form evaluates each kind of primitives."""

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from torch import Tensor, nn

from ...arch import PRIMITIVES
from ...errors import UserError
from .fused_functions import Separable, sync_batch_norm


class Layout:
    """What the table of primitives means for a cell, as it is when built.

    Primitives are named by their index in the table, layers by that in the
    module of the reference form.

    Attributes:
        modules (dict): The number of each primitive's module on an edge.
        shared, weighted (dict): Rows of the primitives without weights and of
            those with some; ``*_columns`` are theirs in the alphas.
        convs (list): Primitive, layer and ``Conv`` of each convolution.
        norms (list): Primitive and layer of each norm, in stored order.
        last_norms (dict): The last layer of each primitive with weights.
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
        self.shared_columns = _columns(list(self.shared))
        self.weighted_columns = _columns(list(self.weighted))
        self.convs = []
        for index, row in self.weighted.items():
            layer = 1  # behind the ReLU
            for conv in row.convs:
                self.convs.append((index, layer, conv))
                layer += 3 if conv.norm else 1  # and the next ReLU
        self.norms = [(i, layer + 1) for i, layer, c in self.convs if c.norm]
        self.last_norms = dict(self.norms)


def _columns(indices):
    """A slice where they are adjacent: it copies nothing."""
    adjacent = range(indices[0], indices[-1] + 1)
    if indices == list(adjacent):
        return slice(adjacent.start, adjacent.stop)
    return indices


class FanOut:
    """All edges that leave one state, of which there are n, in one pass.

    ``shared_weights`` (n, number) are those of primitives without weights,
    ``factors`` (number, n * C) those of the others; ``convs`` are kernels of
    n * C rows; ``norms`` have weight and bias, (n * C, ) each or None, and in
    evaluation mean and variance. ``statistics`` are mean and variance of the
    batch, (2, norms, scales * n * C), once every norm was called.
    """

    def __init__(
        self, cell, num_scales, shared_weights, factors, convs, norms
    ) -> None:
        self.layout = cell.layout
        self.training = cell.training
        self.eps = cell.norm.eps
        self.synchronised = (
            self.training
            and isinstance(cell.norm, nn.SyncBatchNorm)
            and get_world_size() > 1
        )
        self.num_scales = num_scales if self.training else 1
        self.shared_weights = shared_weights
        self.fan_out = len(shared_weights)
        factors = factors.repeat(1, self.num_scales)
        self.factors = dict(zip(self.layout.weighted, factors))
        self.convs = dict(zip(cell.convs, convs))
        self.norms = norms
        self.statistics = cell.norm.running_mean.new_zeros(
            2, len(norms), factors.shape[1]
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Give (N, n, C, H, W), what each edge contributes."""
        out = self._shared(x).flatten(1, 2)
        x = x.relu()
        for primitive, row in self.layout.weighted.items():
            out = out + WEIGHTED[row.kind](self, x, primitive, row.kernel)
        return out.unflatten(1, (self.fan_out, -1))

    def _shared(self, x):
        """Those without weights are the same for every edge."""
        rows = self.layout.shared.values()
        results = [SHARED[row.kind](x, row.kernel) for row in rows]
        stacked = torch.stack(results, dim=1)
        # Not matmul, which copies them where the weights want gradients.
        weights = self.shared_weights.expand(len(x), -1, -1)
        out = torch.bmm(weights, stacked.flatten(2))
        return out.unflatten(2, x.shape[1:])

    def norm(self, x: Tensor, primitive: int, layer: int) -> Tensor:
        """Normalise (N * scales, n * C, H, W), each scale by itself.

        The weight of a primitive comes in as the factor of its last norm: as
        a factor of the output it would have to keep that for its gradient.
        """
        index = self.layout.norms.index((primitive, layer))
        weight, bias, mean, var = self.norms[index]
        if weight is not None:
            weight = weight.repeat(self.num_scales)
            bias = bias.repeat(self.num_scales)
        if self.layout.last_norms[primitive] == layer:
            factor = self.factors[primitive]
            weight = factor if weight is None else weight * factor
            bias = None if bias is None else bias * factor
        if self.training:
            mean, var = self.statistics[:, index]
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


def _sep_conv(edges, x, primitive, kernel):
    def separable(x, layer):
        depthwise, pointwise = (
            edges.convs[f'{primitive}_{i}'] for i in (layer, layer + 1)
        )
        return Separable.apply(x, depthwise, pointwise, edges.fan_out)

    y = edges.norm(separable(x, 1), primitive, 3)
    if y.device.type == 'cpu' and kernel >= 5:
        # Faster there: the gradient of large depthwise kernels.
        y = y.contiguous(memory_format=torch.channels_last)
    return edges.norm(separable(y.relu_(), 5), primitive, 7)


def _atrous_conv(edges, x, primitive, kernel):
    weight = edges.convs[f'{primitive}_1']
    y = F.conv2d(x, weight, padding=kernel - 1, dilation=2)
    return edges.norm(y, primitive, 2)


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
# What has some: (edges, x, primitive, kernel), with x behind the first ReLU,
# to (N, n * C, H, W). Layers are counted as in the module that is built: a
# ReLU, the convolutions of the table up to a norm, that norm, and so on.
WEIGHTED = {'sep_conv': _sep_conv, 'atrous_conv': _atrous_conv}
