"""The cell of a derived network."""

from collections.abc import Sequence

import torch
from mmcv.cnn.bricks.drop import drop_path
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ...arch import PRIMITIVES
from .operations import ReLUConvNorm, build_operation, resize


class Cell(BaseModule):
    """A decoded cell, wired as in the authors' code.

    Both inputs are projected to ``channels`` at the resolution of ``x``; if
    the cell halves the resolution, the operations on these two states carry
    the stride. The output is the concatenation of all blocks, raw: the next
    cell begins with the ReLU. In training, drop path applies to the output of
    every operation but skip connections.

    Args:
        cell (Sequence): One pair of connections per block
            (:attr:`AutoDeepLabArchitecture.cell`).
        in_channels (int): Channels of the previous cell's output.
        prev_channels (int): Channels of the output before that.
        channels (int): Width of every block.
        stride (int): 2 if the cell goes to the coarser scale, else 1.
        norm_cfg (dict): Norm of every convolution.
        align_corners (bool): Of every resize.

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
        self.entry = ReLUConvNorm(in_channels, channels, 1, norm_cfg)
        # The authors project the second input only if its width differs.
        self.prev_entry = (
            nn.Identity()
            if prev_channels == channels
            else ReLUConvNorm(prev_channels, channels, 1, norm_cfg)
        )
        self.blocks = ModuleList(
            ModuleList(
                build_operation(
                    c.op,
                    channels,
                    stride if c.input < 2 else 1,
                    norm_cfg,
                    align_corners,
                )
                for c in block
            )
            for block in cell
        )

    def forward(self, x: Tensor, prev: Tensor) -> Tensor:
        """Run the cell.

        Args:
            x (Tensor): Previous output, already upsampled if the cell goes to
                the finer scale, (N, C, H, W).
            prev (Tensor): The output before that, at any resolution.

        Returns:
            Tensor: (N, B * channels, ceil(H / stride), ceil(W / stride)).
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

    def _run(self, operation: nn.Module, name: str, state: Tensor) -> Tensor:
        out = operation(state)
        if PRIMITIVES[name].kind == 'skip':
            return out
        return drop_path(out, 1 - self.keep_prob, self.training)
