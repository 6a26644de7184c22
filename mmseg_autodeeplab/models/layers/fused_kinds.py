"""How the fused form evaluates each kind of primitives."""

from typing import Union

import torch
import torch.nn.functional as F
from torch import Tensor

from ...arch import PRIMITIVES, Primitive
from ...errors import UserError
from .fused_norm import StateNorm
from .separable import Separable


class Layout:
    """What the table of primitives means for a cell, as it is when built.

    Primitives are named by their index in the table, layers by that in the
    module of the reference form.

    Attributes:
        shared (list): Function and kernel of each primitive without weights.
        weighted (dict): Function and kernel of each one with weights.
        convs (list): Primitive, layer and ``Conv`` of each convolution.
        norms (list): Primitive and layer of each norm, in stored order.
        last_norms (set): Those behind which the weight of the primitive
            applies.
        modules (dict): The number of a primitive's module on an edge.
        shared_columns, weighted_columns: Of the alphas.

    Raises:
        UserError: The fused form does not know a kind.
    """

    def __init__(self) -> None:
        shared, self.weighted, self.modules = {}, {}, {}
        self.convs, self.norms, self.last_norms = [], [], set()
        for index, row in enumerate(PRIMITIVES.values()):
            if not row.is_decodable:
                continue
            self.modules[index] = len(self.modules)
            if row.kind in SHARED:
                shared[index] = SHARED[row.kind], row.kernel
            elif row.kind in WEIGHTED:
                self.weighted[index] = WEIGHTED[row.kind], row.kernel
                self._add_layers(index, row)
            else:
                raise UserError(
                    "form='fused' of the supernet cannot evaluate the "
                    f'primitive {row.name!r} of kind {row.kind!r}; take '
                    "form='reference', or add the kind to "
                    'models/layers/fused_kinds.py.'
                )
        self.shared = list(shared.values())
        self.shared_columns = _columns(list(shared))
        self.weighted_columns = _columns(list(self.weighted))

    def _add_layers(self, index: int, row: Primitive) -> None:
        layer = 1  # behind the ReLU
        for conv in row.convs:
            self.convs.append((index, layer, conv))
            layer += 1
            if conv.norm:
                self.norms.append((index, layer))
                layer += 2  # and the next ReLU
        self.last_norms.add(self.norms[-1])


def _columns(indices: list[int]) -> Union[slice, list[int]]:
    """A slice where they are adjacent: it copies nothing."""
    adjacent = range(indices[0], indices[-1] + 1)
    if indices == list(adjacent):
        return slice(adjacent.start, adjacent.stop)
    return indices


class FanOut:
    """All edges that leave one state, of which there are n."""

    def __init__(
        self,
        layout: Layout,
        shared_weights: Tensor,
        convs: dict[str, Tensor],
        norm: StateNorm,
    ) -> None:
        self.layout = layout
        self.shared_weights = shared_weights  # (n, primitives)
        self.convs = convs  # n * C rows each
        self.norm = norm
        self.fan_out = len(shared_weights)

    def __call__(self, x: Tensor) -> Tensor:
        """Give (N, n, C, H, W), what each edge contributes."""
        out = self._shared(x).flatten(1, 2)
        x = x.relu()
        for primitive, (evaluate, kernel) in self.layout.weighted.items():
            out = out + evaluate(self, x, primitive, kernel)
        return out.unflatten(1, (self.fan_out, -1))

    def _shared(self, x: Tensor) -> Tensor:
        """Those without weights are the same for every edge."""
        results = [evaluate(x, k) for evaluate, k in self.layout.shared]
        stacked = torch.stack(results, dim=1)
        # Not matmul, which copies them where the weights want gradients.
        weights = self.shared_weights.expand(len(x), -1, -1)
        out = torch.bmm(weights, stacked.flatten(2))
        return out.unflatten(2, x.shape[1:])


def _sep_conv(edges: FanOut, x: Tensor, primitive: int, kernel: int) -> Tensor:
    depthwise = edges.convs[f'{primitive}_1']
    pointwise = edges.convs[f'{primitive}_2']
    y = Separable.apply(x, depthwise, pointwise, edges.fan_out)
    y = edges.norm(y, primitive, 3)
    if y.device.type == 'cpu' and kernel >= 5:
        # Faster there: the gradient of large depthwise kernels.
        y = y.contiguous(memory_format=torch.channels_last)
    y = y.relu_()
    depthwise = edges.convs[f'{primitive}_5']
    pointwise = edges.convs[f'{primitive}_6']
    y = Separable.apply(y, depthwise, pointwise, edges.fan_out)
    return edges.norm(y, primitive, 7)


def _atrous_conv(
    edges: FanOut, x: Tensor, primitive: int, kernel: int
) -> Tensor:
    y = F.conv2d(
        x, edges.convs[f'{primitive}_1'], padding=kernel - 1, dilation=2
    )
    return edges.norm(y, primitive, 2)


def _max_pool(x: Tensor, kernel: int) -> Tensor:
    return F.max_pool2d(x, kernel, stride=1, padding=kernel // 2)


def _avg_pool(x: Tensor, kernel: int) -> Tensor:
    return F.avg_pool2d(
        x, kernel, stride=1, padding=kernel // 2, count_include_pad=False
    )


def _skip(x: Tensor, kernel: int) -> Tensor:
    return x


# All that the fused form has to know of a kind, at stride 1. What has no
# weights is evaluated once for all edges: (x, kernel) to a tensor like x.
SHARED = {'max_pool': _max_pool, 'avg_pool': _avg_pool, 'skip': _skip}
# What has some: (edges, x, primitive, kernel), with x behind the first ReLU,
# to (N, n * C, H, W). Layers are counted as in the module that is built: a
# ReLU, the convolutions of the table up to a norm, that norm, and so on.
WEIGHTED = {'sep_conv': _sep_conv, 'atrous_conv': _atrous_conv}
