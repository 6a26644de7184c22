"""The operations of the search space, shared by supernet and derived network.

All are pre-activation, as in the authors' code: ReLU, convolution, norm. No
convolution has a bias.
"""

from collections.abc import Sequence

import torch.nn as nn
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseInit, Sequential, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor

from ...arch import PRIMITIVES, Conv
from .functional import resize


class ReLUConvNorm(Sequential):
    """ReLU, convolutions up to one with a norm, this norm, and so on.

    They keep the size, up to the stride of the first one.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        convs: Sequence[Conv],
        norm_cfg: dict,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        # Not in place: the input is a state that others read too.
        layers = [nn.ReLU()]
        for conv in convs:
            layers.append(
                nn.Conv2d(
                    in_channels,
                    channels,
                    conv.kernel,
                    stride=stride,
                    padding=dilation * (conv.kernel // 2),
                    dilation=dilation,
                    groups=channels if conv.depthwise else 1,
                    bias=False,
                )
            )
            in_channels, stride = channels, 1
            if conv.norm:
                layers += [build_norm_layer(norm_cfg, channels)[1], nn.ReLU()]
        super().__init__(*layers[:-1])


class StridedAtrousConv(ReLUConvNorm):
    """An atrous convolution in a stride-2 position, as the authors run it.

    ReLU, bilinear resize to half the size, convolution of rate 1, norm.
    """

    align_corners = True

    def forward(self, x: Tensor) -> Tensor:
        relu, conv, norm = self
        half = [(n + 1) // 2 for n in x.shape[2:]]
        return norm(conv(resize(relu(x), half, self.align_corners)))


def build_operation(
    name: str,
    channels: int,
    stride: int,
    norm_cfg: dict,
    align_corners: bool = True,
) -> nn.Module:
    """Build one primitive: (N, C, H, W) to (N, C, ceil(H/s), ceil(W/s)).

    Raises:
        KeyError: No builder is known for it, such as for ``none``.
    """
    primitive = PRIMITIVES[name]
    return BUILDERS[primitive.kind](
        primitive, channels, stride, norm_cfg, align_corners
    )


def _max_pool(primitive, channels, stride, *args):
    return nn.MaxPool2d(primitive.kernel, stride, primitive.kernel // 2)


def _avg_pool(primitive, channels, stride, *args):
    kernel = primitive.kernel
    return nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)


def _convs(primitive, channels, stride, norm_cfg, align_corners):
    convs = primitive.convs_at(stride)
    if not convs:
        return nn.Identity()
    return ReLUConvNorm(channels, channels, convs, norm_cfg, stride)


def _atrous_conv(primitive, channels, stride, norm_cfg, align_corners):
    args = (channels, channels, primitive.convs_at(stride), norm_cfg)
    if stride == 2:
        operation = StridedAtrousConv(*args)
        operation.align_corners = align_corners
        return operation
    # A plain convolution, not a separable one: only so do the published
    # parameter counts come out.
    return ReLUConvNorm(*args, dilation=2)


# By kind: (primitive, channels, stride, norm_cfg, align_corners) to a module.
BUILDERS = {
    'max_pool': _max_pool,
    'avg_pool': _avg_pool,
    'skip': _convs,
    'sep_conv': _convs,
    'atrous_conv': _atrous_conv,
}


@WEIGHT_INITIALIZERS.register_module('FanInUniform')
class FanInUniformInit(BaseInit):
    """The authors' initialisation of the backbone's convolutions.

    Uniform in +-1 / sqrt(n), with n the kernel's area times the input
    channels. It differs from PyTorch's default in depthwise convolutions:
    TensorFlow, where the authors work, counts all channels there. ``layer``
    names the classes to initialise, as for MMEngine's own initialisers.
    """

    def __call__(self, module: nn.Module) -> None:
        """Initialise the layers within ``module``."""
        for m in module.modules():
            names = {cls.__name__ for cls in type(m).__mro__}
            if isinstance(m, nn.Conv2d) and (
                self.wholemodule or names & set(self.layer)
            ):
                bound = (m.in_channels * m.weight[0, 0].numel()) ** -0.5
                nn.init.uniform_(m.weight, -bound, bound)
                if m.bias is not None:
                    nn.init.constant_(m.bias, self.bias)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())
