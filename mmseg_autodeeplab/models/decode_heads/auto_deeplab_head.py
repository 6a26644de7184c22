"""The heads of search and retraining, both on plain-convolution ASPP."""

import logging
from collections.abc import Sequence
from functools import cache

import torch
from mmcv.cnn import ConvModule
from mmengine.logging import print_log
from mmseg.models.decode_heads.aspp_head import ASPPModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.utils import OptMultiConfig
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...arch import RATES
from ...errors import UserError
from ..layers import resize

BATCH_OF_ONE = (
    'Where a batch of one image leaves one value per channel, as behind image '
    'pooling, batch norm uses its running statistics.'
)
print_once = cache(print_log)


class HeadConv(ConvModule):
    """A ``ConvModule`` that keeps what the head's ``init_cfg`` gave it.

    A training batch of one image may leave one value per channel, of which
    batch norm has no variance: its running statistics are used then. Where it
    has a norm, its stride is 1.
    """

    # MMEngine initialises children behind their parents, and a ConvModule
    # would put its own initialisation over the head's.
    is_init = True

    def forward(self, x: Tensor) -> Tensor:
        """Give (N, out_channels, H, W)."""
        norm = self.norm
        lacks_variance = (
            isinstance(norm, _BatchNorm)
            # It sees the images of the other processes too.
            and not isinstance(norm, nn.SyncBatchNorm)
            and norm.training
            and norm.track_running_stats
            and x[:, 0].numel() == 1
        )
        if lacks_variance:
            print_once(BATCH_OF_ONE, 'current', logging.WARNING)
            norm.eval()
        out = super().forward(x)
        if lacks_variance:
            norm.train()
        return out


class ImagePool(HeadConv):
    """Global average pooling, 1x1 convolution, norm, ReLU, resize back."""

    def __init__(self, in_channels: int, channels: int, **kwargs) -> None:
        super().__init__(in_channels, channels, 1, **kwargs)

    def pool(self, x: Tensor) -> Tensor:
        """The mean of each channel."""
        return x.mean((2, 3), keepdim=True)

    def spread(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """One value everywhere."""
        return x.expand(-1, -1, *size)

    def forward(self, x: Tensor) -> Tensor:
        """Give (N, channels, H, W) for (N, in_channels, H, W)."""
        return self.spread(super().forward(self.pool(x)), x.shape[2:])


def conv_options(head):
    return {k: getattr(head, k) for k in ('conv_cfg', 'norm_cfg', 'act_cfg')}


@MODELS.register_module()
class AutoDeepLabSearchHead(BaseDecodeHead):
    """One simplified ASPP per scale; their logits are summed (Sec. 4.1).

    Each ASPP has a 1x1 convolution, a 3x3 convolution of rate 96 / s and image
    pooling, with as many filters as the scale has channels. A 1x1 convolution
    on them gives logits, which are upsampled to stride 4 and summed, and then
    go to the input's size. With ``align_corners=True`` and inputs of 32 k + 1
    pixels that equals resizing each to the input, as the paper does.

    Args:
        in_channels, in_index (Sequence[int]): Channels at strides 4, 8, 16,
            32, and their indices in the features.
        rate (int): Of the 3x3 convolutions, in pixels of the image. The
            paper's is for crops of 321 pixels: in those of 96, the outer
            weights at stride 4 see padding alone. Where ``rate / s`` is 1 or
            less, ``ASPPModule`` has a 1x1 convolution.
        kwargs: Of ``BaseDecodeHead``; ``channels`` is not used, since the
            widths are those of the inputs.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_index: Sequence[int] = (0, 1, 2, 3),
        rate: int = 96,
        **kwargs,
    ) -> None:
        if len(in_channels) != len(RATES):
            raise UserError(
                f'in_channels is {in_channels}, but the search head needs the '
                f'channels of {len(RATES)} scales.'
            )
        kwargs.setdefault('channels', in_channels[0])
        super().__init__(
            in_channels=in_channels,
            in_index=in_index,
            input_transform='multiple_select',
            **kwargs,
        )
        conv = conv_options(self)
        self.aspp = nn.ModuleList(
            ASPPModule((1, max(1, rate // s)), width, width, **conv)
            for s, width in zip(RATES, in_channels)
        )
        self.image_pool = nn.ModuleList(
            ImagePool(width, width, **conv) for width in in_channels
        )
        self.conv_seg = nn.ModuleList(
            nn.Conv2d(3 * width, self.out_channels, 1) for width in in_channels
        )

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Give logits (N, num_classes, H, W) at the finest scale."""
        inputs = self._transform_inputs(inputs)
        size = inputs[0].shape[2:]
        logits = 0
        for x, aspp, image_pool, conv_seg in zip(
            inputs, self.aspp, self.image_pool, self.conv_seg
        ):
            x = torch.cat([*aspp(x), image_pool(x)], dim=1)
            if self.dropout is not None:
                x = self.dropout(x)
            logits = logits + resize(conv_seg(x), size, self.align_corners)
        return logits


@MODELS.register_module()
class AutoDeepLabHead(BaseDecodeHead):
    """Plain-convolution ASPP and the DeepLabv3+ decoder, as in the paper.

    ASPP: image pooling, 1x1 convolution, one 3x3 atrous convolution per rate,
    then a 1x1 projection and dropout. Decoder: the projected low-level feature
    behind the upsampled ASPP, and two plain 3x3 convolutions.

    Args:
        in_channels, in_index (Sequence[int]): Channels of the low-level and
            of the final feature, and their indices in the features.
        channels, low_level_channels (int): Width of every branch and of the
            decoder, and of the projected low-level feature.
        dilations (Sequence[int]): Rates of the 3x3 branches; the default ones
            go with a final stride of 8.
        init_cfg (dict | list[dict], optional): The authors' by default.
        kwargs: Of ``BaseDecodeHead``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_index: Sequence[int] = (0, -1),
        channels: int = 256,
        low_level_channels: int = 48,
        dilations: Sequence[int] = (12, 24, 36),
        init_cfg: OptMultiConfig = [
            dict(type='Xavier', distribution='uniform', layer='Conv2d'),
            dict(
                type='TruncNormal',
                std=0.01,
                a=-0.02,
                b=0.02,
                override=dict(name='conv_seg'),
            ),
        ],
        **kwargs,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            in_index=in_index,
            channels=channels,
            input_transform='multiple_select',
            init_cfg=init_cfg,
            **kwargs,
        )
        low, final = in_channels
        conv = conv_options(self)
        self.image_pool = ImagePool(final, channels, **conv)
        self.aspp = ASPPModule((1, *dilations), final, channels, **conv)
        branches = 2 + len(dilations)
        self.project = HeadConv(branches * channels, channels, 1, **conv)
        self.low_level = HeadConv(low, low_level_channels, 1, **conv)
        self.decoder = nn.Sequential(
            *(
                HeadConv(width, channels, 3, padding=1, **conv)
                for width in (channels + low_level_channels, channels)
            )
        )
        # Behind the projection and of single values, as the authors have it;
        # the base class drops whole channels before the classifier.
        self.dropout = nn.Dropout(self.dropout_ratio)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Give logits (N, num_classes, H, W) at the low-level stride."""
        low, final = self._transform_inputs(inputs)
        x = torch.cat([self.image_pool(final), *self.aspp(final)], dim=1)
        x = self.dropout(self.project(x))
        x = resize(x, low.shape[2:], self.align_corners)
        x = self.decoder(torch.cat([x, self.low_level(low)], dim=1))
        return self.conv_seg(x)
