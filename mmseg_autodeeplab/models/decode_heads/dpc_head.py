"""The head that a dense prediction cell makes."""

from collections.abc import Mapping, Sequence
from typing import Union

import torch
import torch.nn.functional as F
from mmengine.model import trunc_normal_init, xavier_init
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.utils import OptMultiConfig
from torch import Tensor, nn

from ...arch import Architecture, Branch, DPCArchitecture, get_architecture
from ...arch.dpc import FEATURE
from ...errors import UserError
from ..layers import resize
from .auto_deeplab_head import HeadConv, ImagePool, conv_options

SEARCHED_STRIDE = 16  # that rates are given for
POOLINGS = ('grid', 'sliding')


class SeparableConv(nn.Sequential):
    """Depthwise 3x3 convolution, norm, ReLU; 1x1 convolution, norm, ReLU."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        rate: tuple[int, int] = (1, 1),
        **kwargs,
    ) -> None:
        depthwise = dict(groups=in_channels, dilation=rate, padding=rate)
        super().__init__(
            HeadConv(in_channels, in_channels, 3, **depthwise, **kwargs),
            HeadConv(in_channels, channels, 1, **kwargs),
        )


class GridPool(ImagePool):
    """Average pooling, 1x1 convolution, norm, ReLU, resize back.

    ``'grid'`` pools each cell of a grid, as the paper says; ``'sliding'`` all
    windows of the size of a cell, as the authors' code does.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        grid_size: tuple[int, int],
        pooling: str,
        align_corners: bool,
        **kwargs,
    ) -> None:
        super().__init__(in_channels, channels, **kwargs)
        self.grid_size = grid_size
        self.pooling = pooling
        self.align_corners = align_corners

    def pool(self, x: Tensor) -> Tensor:
        """The mean of each cell, or window."""
        size, grid = x.shape[2:], self.grid_size
        if size[0] < grid[0] or size[1] < grid[1]:
            raise UserError(
                f'a pooling of {grid[0]} x {grid[1]} cells cannot be applied '
                f'to a feature of {size[0]} x {size[1]} positions: use larger '
                'crops, or an architecture with smaller grids'
            )
        if self.pooling == 'grid':
            return F.adaptive_avg_pool2d(x, grid)
        window = [(side - 1) // cells + 1 for side, cells in zip(size, grid)]
        return F.avg_pool2d(x, window, stride=1)

    def spread(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Resize to the size of the feature."""
        return resize(x, size, self.align_corners)


@MODELS.register_module()
class DPCHead(BaseDecodeHead):
    """A dense prediction cell (Chen et al., NeurIPS 2018), on any backbone.

    Every branch has ``channels`` filters. All of them side by side go through
    dropout, as in the authors' code, and a 1x1 projection. With two features,
    the DeepLabv3+ decoder follows: the projected low-level feature behind the
    upsampled cell, and two separable 3x3 convolutions.

    Args:
        arch (str | dict | DPCArchitecture): A name in the zoo (``'dpc'`` is
            the published cell), the path of a JSON file, or its content.
        in_channels, in_index (int | Sequence[int]): Of the feature; or of the
            low-level one and of the feature, for the decoder.
        channels, low_level_channels (int): Width of every branch, of the
            projection and the decoder, and of the projected low-level feature.
        output_stride (int): Of the feature: 16, or less where 16 // stride
            multiplies the rates, as in the authors' code.
        pooling (str): ``'grid'`` by default, since it works alike at any size
            of the image; ``'sliding'`` is what the authors' code does.
        init_cfg (dict | list[dict], optional): The authors' by default.
        kwargs: Of ``BaseDecodeHead``.

    Raises:
        UserError: An argument is not one of these.
    """

    def __init__(
        self,
        arch: Union[str, Mapping, Architecture],
        in_channels: Union[int, Sequence[int]],
        in_index: Union[int, Sequence[int], None] = None,
        channels: int = 256,
        low_level_channels: int = 48,
        output_stride: int = SEARCHED_STRIDE,
        pooling: str = 'grid',
        init_cfg: OptMultiConfig = None,
        **kwargs,
    ) -> None:
        self.has_decoder = not isinstance(in_channels, int)
        if in_index is None:
            in_index = (0, -1) if self.has_decoder else -1
        if self.has_decoder and (len(in_channels), len(in_index)) != (2, 2):
            raise UserError(
                f'DPCHead has in_channels={in_channels} and in_index='
                f'{in_index}, but takes one number for each, or two of them, '
                'of the low-level feature and of the feature, for a decoder'
            )
        if output_stride not in (1, 2, 4, 8, 16):
            raise UserError(
                f'DPCHead has output_stride={output_stride}, but rates are '
                'those of 16, and a smaller stride, of 8, 4, 2 or 1, '
                'multiplies them: let the backbone end at such a stride'
            )
        if pooling not in POOLINGS:
            raise UserError(
                f'DPCHead has pooling={pooling!r}, but it must be '
                f'{" or ".join(map(repr, POOLINGS))}'
            )
        super().__init__(
            in_channels=in_channels,
            in_index=in_index,
            channels=channels,
            input_transform='multiple_select' if self.has_decoder else None,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.arch = get_architecture(arch, DPCArchitecture)
        self.multiplier = SEARCHED_STRIDE // output_stride
        self.pooling = pooling
        feature = in_channels[1] if self.has_decoder else in_channels
        conv = conv_options(self)
        self.branches = nn.ModuleList(
            self._build_branch(
                branch, feature if branch.input == FEATURE else channels
            )
            for branch in self.arch.branches
        )
        self.project = HeadConv(
            len(self.branches) * channels, channels, 1, **conv
        )
        self.dropout = nn.Dropout(self.dropout_ratio)
        if self.has_decoder:
            self.low_level = HeadConv(
                in_channels[0], low_level_channels, 1, **conv
            )
            self.decoder = nn.Sequential(
                SeparableConv(channels + low_level_channels, channels, **conv),
                SeparableConv(channels, channels, **conv),
            )

    def _build_branch(self, branch: Branch, in_channels: int) -> nn.Module:
        widths, conv = (in_channels, self.channels), conv_options(self)
        if branch.op == 'pyramid_pooling':
            pooling = branch.grid_size, self.pooling, self.align_corners
            return GridPool(*widths, *pooling, **conv)
        if branch.kernel == 1:
            return HeadConv(*widths, 1, **conv)
        rate = tuple(self.multiplier * rate for rate in branch.rate)
        return SeparableConv(*widths, rate, **conv)

    def init_weights(self) -> None:
        """Initialise as the authors do, unless there is an ``init_cfg``."""
        if self.init_cfg is not None:
            super().init_weights()
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                xavier_init(module, distribution='uniform')
        for module in self.modules():
            if isinstance(module, SeparableConv):
                for part, std in zip(module, (0.33, 0.06)):
                    trunc_normal_init(part.conv, 0, std, -2 * std, 2 * std)
        trunc_normal_init(self.conv_seg, 0, 0.01, -0.02, 0.02)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Give logits (N, num_classes, H, W) at the first feature's stride."""
        features = self._transform_inputs(inputs)
        low, feature = features if self.has_decoder else (None, features)
        outs: list[Tensor] = []
        for branch, module in zip(self.arch.branches, self.branches):
            source = branch.input
            outs.append(module(feature if source == FEATURE else outs[source]))
        x = self.project(self.dropout(torch.cat(outs, dim=1)))
        if low is not None:
            x = resize(x, low.shape[2:], self.align_corners)
            x = self.decoder(torch.cat([x, self.low_level(low)], dim=1))
        return self.conv_seg(x)
