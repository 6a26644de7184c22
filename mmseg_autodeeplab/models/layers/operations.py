"""The operations of the search space, shared by supernet and derived network.

All are pre-activation, as in the authors' code: ReLU, convolution, norm. No
convolution has a bias.
"""

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import Sequential
from torch import Tensor

from ...arch import PRIMITIVES, Conv, Primitive


def resize(x: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Bilinear resize; returns ``x`` itself if it already has that size."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(
        x, size=size, mode='bilinear', align_corners=align_corners
    )


def halved(size: tuple[int, int]) -> tuple[int, int]:
    """The size after a stride of 2: ceil(n / 2), (n - 1) / 2 + 1 if odd."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def with_passed(mixed: Tensor, passed: Tensor) -> Tensor:
    """Put channels that were mixed and those that passed by together.

    Shuffled, so that every channel is mixed at times: partial channel
    connections (`PC-DARTS <https://arxiv.org/abs/1907.05737>`_, Xu et al.
    2020).

    Args:
        mixed (Tensor): (N, C / k, H, W).
        passed (Tensor): (N, C - C / k, H, W), empty for k = 1.

    Returns:
        Tensor: (N, C, H, W).
    """
    if not passed.shape[1]:
        return mixed
    parts = 1 + passed.shape[1] // mixed.shape[1]
    return torch.channel_shuffle(torch.cat((mixed, passed), dim=1), parts)


class ReLUConvNorm(Sequential):
    """ReLU, convolution that keeps the size up to its stride, norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        norm_cfg: dict,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__(
            # Not in place: the input is a state that others read too.
            nn.ReLU(),
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride=stride,
                padding=dilation * (kernel_size // 2),
                dilation=dilation,
                bias=False,
            ),
            build_norm_layer(norm_cfg, out_channels)[1],
        )


class Convs(Sequential):
    """The convolutions of a row of the table; the first has the stride.

    ReLU, convolutions up to one with a norm, this norm, and so on.
    """

    def __init__(
        self,
        convs: Sequence[Conv],
        channels: int,
        norm_cfg: dict,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        # Not in place: the input is a state that others read too.
        layers = [nn.ReLU()]
        for conv in convs:
            layers.append(
                nn.Conv2d(
                    channels,
                    channels,
                    conv.kernel,
                    stride=stride,
                    padding=dilation * (conv.kernel // 2),
                    dilation=dilation,
                    groups=channels if conv.depthwise else 1,
                    bias=False,
                )
            )
            stride = 1
            if conv.norm:
                norm = build_norm_layer(norm_cfg, channels)[1]
                layers += [norm, nn.ReLU()]
        super().__init__(*layers[:-1])


class StridedAtrousConv(Convs):
    """An atrous convolution in a stride-2 position, as the authors run it.

    ReLU, bilinear resize to half the size, convolution of rate 1, norm.
    """

    align_corners = True

    def forward(self, x: Tensor) -> Tensor:
        relu, conv, norm = self
        x = resize(relu(x), halved(x.shape[2:]), self.align_corners)
        return norm(conv(x))


def build_operation(
    name: str,
    channels: int,
    stride: int,
    norm_cfg: dict,
    align_corners: bool = True,
) -> nn.Module:
    """Build one primitive: (N, C, H, W) to (N, C, ceil(H/s), ceil(W/s)).

    Args:
        name (str): One of ``PRIMITIVES`` but ``none``, which has no module.
        channels (int): C, of input and output.
        stride (int): 1 or 2.
        norm_cfg (dict): Norm of every convolution.
        align_corners (bool): Of the resize in a strided atrous convolution.
            Defaults to True.

    Raises:
        KeyError: No builder is known for it.
    """
    primitive = PRIMITIVES[name]
    return BUILDERS[primitive.kind](
        primitive, channels, stride, norm_cfg, align_corners
    )


def _max_pool(primitive: Primitive, _: int, stride: int, *__) -> nn.Module:
    kernel = primitive.kernel
    return nn.MaxPool2d(kernel, stride=stride, padding=kernel // 2)


def _avg_pool(primitive: Primitive, _: int, stride: int, *__) -> nn.Module:
    kernel = primitive.kernel
    return nn.AvgPool2d(
        kernel, stride=stride, padding=kernel // 2, count_include_pad=False
    )


def _convs(
    primitive: Primitive, channels: int, stride: int, norm_cfg: dict, _: bool
) -> nn.Module:
    convs = primitive.convs_at(stride)
    return Convs(convs, channels, norm_cfg, stride) if convs else nn.Identity()


def _atrous_conv(
    primitive: Primitive,
    channels: int,
    stride: int,
    norm_cfg: dict,
    align_corners: bool,
) -> nn.Module:
    convs = primitive.convs_at(stride)
    if stride == 2:
        operation = StridedAtrousConv(convs, channels, norm_cfg)
        operation.align_corners = align_corners
        return operation
    # A plain convolution, not a separable one: only so do the published
    # parameter counts come out.
    return Convs(convs, channels, norm_cfg, dilation=2)


# By kind: (primitive, channels, stride, norm_cfg, align_corners) to a module.
BUILDERS = {
    'max_pool': _max_pool,
    'avg_pool': _avg_pool,
    'skip': _convs,
    'sep_conv': _convs,
    'atrous_conv': _atrous_conv,
}
