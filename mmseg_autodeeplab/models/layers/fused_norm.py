"""The norms of many edges at once, each scale by itself."""

import torch.nn.functional as F
from torch import Tensor

from .sync_norm import sync_batch_norm


class StateNorm:
    """The norms of all edges that leave one state, each scale by itself.

    The weight of a primitive comes in as the factor of its last norm: as a
    factor of the output it would have to keep that for its gradient.

    Attributes:
        statistics (Tensor): Mean and variance of this batch,
            (2, scales, norms * n * C), once every norm was called.
    """

    def __init__(
        self,
        layout,
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
        self.factors = dict(zip(layout.weighted, factors))
        self.layout = layout
        num_norms = len(layout.norms)
        self._batch = running_mean.new_zeros(
            2, num_norms, num_scales * len(running_mean) // num_norms
        )

    @property
    def statistics(self) -> Tensor:
        by_scale = self._batch.unflatten(2, (self.num_scales, -1))
        return by_scale.transpose(1, 2).flatten(2)

    def __call__(self, x: Tensor, primitive: int, layer: int) -> Tensor:
        """Normalise (N * scales, n * C, H, W)."""
        index = self.layout.norms.index((primitive, layer))
        width = x.shape[1]
        rows = slice(index * width, (index + 1) * width)
        weight, bias = (
            None if tensor is None else tensor[rows]
            for tensor in (self.weight, self.bias)
        )
        if self.training and weight is not None:
            weight = weight.repeat(self.num_scales)
            bias = bias.repeat(self.num_scales)
        if (primitive, layer) in self.layout.last_norms:
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
