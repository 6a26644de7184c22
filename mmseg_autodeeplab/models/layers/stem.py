"""The convolutions before the first cell."""

import torch.nn as nn
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor

from .operations import ReLUConvNorm


class Stem(BaseModule):
    """3x3 convolutions down to stride 4, without a final ReLU.

    The published network has three: stride 2, stride 1, stride 2 with 64, 64
    and 128 channels. The search has the two strided ones ("two-layer stem",
    Sec. 4.1; the paper gives no widths, so they are the same here).

    Args:
        in_channels (int): Channels of the image.
        channels (int): Width at stride 2; it is doubled at stride 4.
        num_convs (int): 2 or 3.
        norm_cfg (dict): Norm of every convolution.
    """

    def __init__(
        self, in_channels: int, channels: int, num_convs: int, norm_cfg: dict
    ) -> None:
        super().__init__()
        layers = [
            nn.Conv2d(
                in_channels, channels, 3, stride=2, padding=1, bias=False
            ),
            build_norm_layer(norm_cfg, channels)[1],
        ]
        if num_convs == 3:
            layers.append(ReLUConvNorm(channels, channels, 3, norm_cfg))
        self.to_stride2 = nn.Sequential(*layers)
        self.to_stride4 = ReLUConvNorm(
            channels, 2 * channels, 3, norm_cfg, stride=2
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give the features at stride 2 and at stride 4."""
        stride2 = self.to_stride2(x)
        return stride2, self.to_stride4(stride2)
