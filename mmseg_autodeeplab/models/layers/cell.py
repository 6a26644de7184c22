"""The stem, and the cell of a derived network."""

from collections.abc import Sequence

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.drop import drop_path
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ...arch import PRIMITIVES, Conv
from .functional import resize
from .operations import ReLUConvNorm, build_operation


class Stem(BaseModule):
    """3x3 convolutions down to stride 4, without a final ReLU.

    The published network has ``num_convs=3``, of stride 2, 1, 2 and 64, 64,
    128 channels. The search has the two strided ones ("two-layer stem", Sec.
    4.1; the paper gives no widths, so they are the same here). ``channels`` is
    the width at stride 2; it is doubled at stride 4.
    """

    def __init__(
        self, in_channels: int, channels: int, num_convs: int, norm_cfg: dict
    ) -> None:
        super().__init__()
        layers = [
            nn.Conv2d(in_channels, channels, 3, 2, padding=1, bias=False),
            build_norm_layer(norm_cfg, channels)[1],
        ]
        if num_convs == 3:
            layers.append(
                ReLUConvNorm(channels, channels, [Conv(3)], norm_cfg)
            )
        self.to_stride2 = nn.Sequential(*layers)
        self.to_stride4 = ReLUConvNorm(
            channels, 2 * channels, [Conv(3)], norm_cfg, stride=2
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give the features at stride 2 and at stride 4."""
        stride2 = self.to_stride2(x)
        return stride2, self.to_stride4(stride2)


class Cell(BaseModule):
    """A decoded cell, wired as in the authors' code.

    Both inputs are projected to ``channels`` at the resolution of ``x``; if
    the cell halves it, the operations on these two states carry the stride.
    The output is the concatenation of all blocks, raw. In training, drop path
    applies to the output of every operation but skip connections.

    Args:
        cell (Sequence): One pair of connections per block
            (:attr:`AutoDeepLabArchitecture.cell`).
        in_channels, prev_channels (int): Of the previous cell's output, and
            of the one before that.
        channels (int): Width of every block.
        stride (int): 2 if the cell goes to the coarser scale, else 1.
        norm_cfg, align_corners: Of every norm, and of every resize.

    Attributes:
        keep_prob (float): Of drop path; 1 until somebody sets it.
    """

    def __init__(
        self,
        cell: Sequence,
        in_channels: int,
        prev_channels: int,
        channels: int,
        stride: int,
        norm_cfg: dict,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.cell = cell
        self.keep_prob = 1.0
        self.align_corners = align_corners
        self.entry = ReLUConvNorm(in_channels, channels, [Conv(1)], norm_cfg)
        # The authors project the second input only if its width differs.
        self.prev_entry = (
            nn.Identity()
            if prev_channels == channels
            else ReLUConvNorm(prev_channels, channels, [Conv(1)], norm_cfg)
        )
        options = norm_cfg, align_corners
        self.blocks = ModuleList(
            ModuleList(
                build_operation(
                    c.op, channels, stride if c.input < 2 else 1, *options
                )
                for c in block
            )
            for block in cell
        )

    def forward(self, x: Tensor, prev: Tensor) -> Tensor:
        """Give (N, B * channels, ceil(H / stride), ceil(W / stride)).

        ``x`` is the previous output, (N, C, H, W), already upsampled if the
        cell goes to the finer scale; ``prev``, before it, is of any size.
        """
        prev = resize(prev, x.shape[2:], self.align_corners)
        states = [self.entry(x), self.prev_entry(prev)]
        for connections, operations in zip(self.cell, self.blocks):
            left, right = (
                self._run(operation, connection.op, states[connection.input])
                for connection, operation in zip(connections, operations)
            )
            states.append(left + right)
        return torch.cat(states[2:], dim=1)

    def _run(self, operation, name, state):
        out = operation(state)
        if PRIMITIVES[name].kind == 'skip':
            return out
        return drop_path(out, 1 - self.keep_prob, self.training)
