"""The head that templates and layers make."""

from collections.abc import Mapping, Sequence
from typing import Union

import torch
from mmcv.cnn import build_activation_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.utils import OptMultiConfig
from torch import Tensor, nn

from ...arch import (
    Architecture,
    TemplateArchitecture,
    TemplateLayer,
    get_architecture,
)
from ...arch.templates import NUM_FEATURES, OPERATIONS
from ...errors import UserError
from ..layers import resize
from .auto_deeplab_head import HeadConv, ImagePool, conv_options


class SeparableConvs(nn.Sequential):
    """Units of depthwise and 1x1 convolution, norm, ReLU; one per stride."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int,
        rate: int,
        strides: Sequence[int],
        **kwargs,
    ) -> None:
        layers = []
        for stride in strides:
            depthwise = HeadConv(
                in_channels,
                in_channels,
                kernel,
                stride,
                padding=rate * (kernel // 2),
                dilation=rate,
                groups=in_channels,
                bias=False,
                **dict(kwargs, norm_cfg=None, act_cfg=None),
            )
            layers += [depthwise, HeadConv(in_channels, channels, 1, **kwargs)]
            in_channels = channels
        super().__init__(*layers)


class Tile(nn.Module):
    """All channels several times, one after another."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        """Give (N, times * C, H, W) for (N, C, H, W)."""
        return x.repeat(1, self.times, 1, 1) if self.times > 1 else x


class Aggregation(nn.Module):
    """Make one of two features, of the wider and of one size.

    The narrower one goes through a 1x1 convolution, norm and ReLU first.
    ``'psum'`` is their sum, with a weight per channel of each; ``'cat'`` puts
    them side by side, ahead of norm, ReLU and a 1x1 convolution.

    Args:
        in_channels (Sequence[int]): Of both.
        shrinks (bool): Whether the size is the smaller one, or the larger.
    """

    def __init__(
        self,
        kind: str,
        in_channels: Sequence[int],
        shrinks: bool,
        align_corners: bool,
        **kwargs,
    ) -> None:
        super().__init__()
        self.channels = channels = max(in_channels)
        self.pick = min if shrinks else max
        self.align_corners = align_corners
        self.adapt = nn.ModuleList(
            nn.Identity()
            if width == channels
            else HeadConv(width, channels, 1, **kwargs)
            for width in in_channels
        )
        self.cat = None
        if kind == 'cat':
            order = ('norm', 'act', 'conv')
            self.cat = HeadConv(
                2 * channels, channels, 1, order=order, **kwargs
            )
        else:
            self.weights = nn.Parameter(torch.ones(2, channels, 1, 1))

    def forward(self, *features: Tensor) -> Tensor:
        """Give (N, max(in_channels), H, W)."""
        # Heights are compared first, as in the authors' code.
        size = self.pick(tuple(x.shape[2:]) for x in features)
        first, second = (
            resize(adapt(x), size, self.align_corners)
            for adapt, x in zip(self.adapt, features)
        )
        if self.cat is not None:
            return self.cat(torch.cat([first, second], dim=1))
        return self.weights[0] * first + self.weights[1] * second


class Block(nn.Module):
    """A template, applied once."""

    def __init__(
        self, first: nn.Module, second: nn.Module, aggregation: Aggregation
    ) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.aggregation = aggregation

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Both operations, and what makes one of them."""
        return self.aggregation(self.first(first), self.second(second))


class Layer(nn.Sequential):
    """A template, applied several times."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Each block reads what the last one read second, and what it gave."""
        for block in self:
            first, second = second, block(first, second)
        return second


@MODELS.register_module()
class TemplateHead(BaseDecodeHead):
    """A decoder of templates and layers (Nekrasov et al., WACV 2020).

    The layers that no other one reads, upsampled to the finest of them and
    side by side, go through ReLU, a 1x1 convolution, norm, ReLU and a 3x3
    classifier.

    Args:
        arch (str | dict | TemplateArchitecture): A name in the zoo
            (``'arch0'`` and ``'arch1'`` are the published ones), the path of a
            JSON file, or its content.
        in_channels, in_index (Sequence[int]): Of two features of the backbone,
            the fine one and the coarse one.
        channels (int): Width ahead of the classifier: 48 in the authors'
            search, 64 in the published networks.
        sep_repeats (int): Units of each separable convolution: 1 in their
            search, 2 in the published networks.
        stride_everywhere (bool): Whether all repeats of a layer have its
            stride, and all units of its separable convolutions, as in the
            authors' code; or only the first of each.
        dropout_ratio, init_cfg: Of ``BaseDecodeHead``; none, and PyTorch's
            own initialisation, by default, as in the authors' code.
        kwargs: Of ``BaseDecodeHead``.

    Raises:
        UserError: An argument is not one of these.
    """

    def __init__(
        self,
        arch: Union[str, Mapping, Architecture],
        in_channels: Sequence[int],
        in_index: Sequence[int] = (0, 1),
        channels: int = 64,
        sep_repeats: int = 2,
        stride_everywhere: bool = True,
        dropout_ratio: float = 0,
        init_cfg: OptMultiConfig = None,
        **kwargs,
    ) -> None:
        pairs = in_channels, in_index
        if not all(
            isinstance(pair, (list, tuple)) and len(pair) == NUM_FEATURES
            for pair in pairs
        ):
            raise UserError(
                f'TemplateHead has in_channels={in_channels} and in_index='
                f'{in_index}, but reads two features: give two numbers for '
                'each'
            )
        if type(sep_repeats) is not int or sep_repeats < 1:
            raise UserError(
                f'TemplateHead has sep_repeats={sep_repeats!r}, but a '
                'separable convolution has 1 unit or more: 2 are published'
            )
        super().__init__(
            in_channels=in_channels,
            in_index=in_index,
            channels=channels,
            dropout_ratio=dropout_ratio,
            input_transform='multiple_select',
            init_cfg=init_cfg,
            **kwargs,
        )
        self.arch = get_architecture(arch, TemplateArchitecture)
        self.sep_repeats = sep_repeats
        self.stride_everywhere = stride_everywhere
        widths, self.layers = list(in_channels), nn.ModuleList()
        for index, layer in enumerate(self.arch.layers):
            inputs = [widths[node] for node in layer.inputs]
            shrinks = index < len(self.arch.layers) // 2
            self.layers.append(self._build_layer(layer, inputs, shrinks))
            widths.append(self.layers[-1][-1].aggregation.channels)
        self.activate = build_activation_layer(self.act_cfg)
        self.project = HeadConv(
            sum(widths[node] for node in self.arch.loose_ends),
            channels,
            1,
            **conv_options(self),
        )
        self.conv_seg = nn.Conv2d(channels, self.out_channels, 3, padding=1)

    def _build_layer(
        self, layer: TemplateLayer, widths: Sequence[int], shrinks: bool
    ) -> Layer:
        first, second, kind = self.arch.templates[layer.template]
        blocks = []
        for repeat in range(layer.repeats):
            factor, strides = 1, [1] * self.sep_repeats
            if repeat == 0:
                factor = strides[0] = layer.stride
            if self.stride_everywhere:
                strides = [layer.stride] * self.sep_repeats
            outs = [factor * width for width in widths]
            operations = (
                self._build_operation(*args, strides)
                for args in zip((first, second), widths, outs)
            )
            aggregation = Aggregation(
                kind, outs, shrinks, self.align_corners, **conv_options(self)
            )
            blocks.append(Block(*operations, aggregation))
            widths = widths[1], aggregation.channels
        return Layer(*blocks)

    def _build_operation(
        self, name: str, in_channels: int, channels: int, strides: list[int]
    ) -> nn.Module:
        """Global pooling and the skip connection have no stride."""
        row, conv = OPERATIONS[name], conv_options(self)
        widths = in_channels, channels
        if row.kind == 'sep_conv':
            kernel = row.kernel, row.rate
            return SeparableConvs(*widths, *kernel, strides, **conv)
        if row.kind == 'max_pool':
            return nn.Sequential(
                HeadConv(*widths, 1, **dict(conv, act_cfg=None)),
                nn.MaxPool2d(row.kernel, strides[0], row.kernel // 2),
            )
        if row.kind == 'global_pool':
            return ImagePool(*widths, **conv)
        return Tile(channels // in_channels)

    def init_weights(self) -> None:
        """Initialise as PyTorch does, unless there is an ``init_cfg``."""
        super().init_weights()
        if self.init_cfg is None:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    module.reset_parameters()

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Give logits (N, num_classes, H, W) at the finest loose end."""
        nodes = list(self._transform_inputs(inputs))
        for layer, module in zip(self.arch.layers, self.layers):
            nodes.append(module(*(nodes[node] for node in layer.inputs)))
        ends = [nodes[node] for node in self.arch.loose_ends]
        size = max(tuple(x.shape[2:]) for x in ends)
        x = torch.cat(
            [resize(x, size, self.align_corners) for x in ends], dim=1
        )
        return self.cls_seg(self.project(self.activate(x)))
