"""The derived network: backbone built from an architecture."""

from collections.abc import Mapping, Sequence
from typing import Union

import torch
from mmengine.model import BaseModule, ModuleList
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, OptMultiConfig
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...arch import AutoDeepLabArchitecture, get_architecture
from ...errors import UserError
from ..layers import (
    Cell,
    Stem,
    check_training_size,
    checkpointed,
    level_sizes,
    resize,
)


@MODELS.register_module()
class AutoDeepLab(BaseModule):
    """`Auto-DeepLab <https://arxiv.org/abs/1901.02985>`_, a derived network.

    Wired as in the authors' code (``hnasnet``): the stride of a downsampling
    cell is inside it, upsampling comes before a cell, the second input of a
    cell is the output two back along the path, and cells pass on raw sums.

    The outputs are ends of *stages*, the maximal runs of cells at one scale;
    stage 0 is at stride 4 and begins with the stem. So output 0 is the
    low-level feature and output -1 the final one, after the final ReLU. The
    published path has eight stages, at strides 4, 8, 16, 8, 16, 32, 16, 8.

    Args:
        arch (str | dict | AutoDeepLabArchitecture): A name in the zoo, the
            path of an ``architecture.json``, or its content.
        filter_multiplier (int): F; a cell at stride s has B * F * s / 4
            channels. 20, 32 and 48 are Auto-DeepLab-S, -M and -L.
        out_indices (Sequence[int]): Stages to return, in this order; negative
            ones count from the end. Cells behind the last of them are not
            built.
        in_channels, stem_channels (int): Of the image; at stride 2.
        norm_cfg, align_corners: Of every norm, and of every resize.
        frozen_stages (int): The last stage whose weights and statistics stay
            as they are, with all before it; -1 freezes nothing.
        norm_eval (bool): Use running statistics in training too.
        with_cp (bool): Run every cell again in backward, which saves memory
            for time.
        init_cfg (dict | list[dict], optional): The authors' initialisation by
            default; None is PyTorch's. In a list behind the default,
            ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')``
            loads what fits of a trained backbone.

    Attributes:
        arch (AutoDeepLabArchitecture): What was built.
        out_channels (list[int]): Channels of each output.
    """

    def __init__(
        self,
        arch: Union[str, Mapping, AutoDeepLabArchitecture],
        filter_multiplier: int = 20,
        out_indices: Sequence[int] = (0, -1),
        in_channels: int = 3,
        stem_channels: int = 64,
        norm_cfg: ConfigType = dict(type='BN', requires_grad=True),
        align_corners: bool = True,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: OptMultiConfig = dict(type='FanInUniform', layer='Conv2d'),
    ) -> None:
        super().__init__(init_cfg)
        self.arch = get_architecture(arch, AutoDeepLabArchitecture)
        self.align_corners = align_corners
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        stages = self.arch.stages
        count, path = len(stages), '-'.join(map(str, self.arch.path))
        if not -1 <= frozen_stages < count:
            raise UserError(
                f'frozen_stages is {frozen_stages}, but the path {path} has '
                f'{count} stages; give -1 for none, up to {count - 1} for all.'
            )
        if not out_indices or not set(out_indices) <= set(
            range(-count, count)
        ):
            raise UserError(
                f'out_indices is {tuple(out_indices)}, but the path {path} '
                f'has {count} stages at one scale each; give one or more '
                f'indices from {-count} to {count - 1}.'
            )
        self.frozen_stages = frozen_stages
        self.out_layers = [stages[index].last_layer for index in out_indices]

        self.stem = Stem(in_channels, stem_channels, 3, norm_cfg)
        self.cells = ModuleList()
        # Output channels along the path; [-2] and [-1] are what a cell reads.
        channels = [stem_channels, 2 * stem_channels]
        previous = 0
        for level in self.arch.levels[: max(self.out_layers) + 1]:
            width = filter_multiplier * 2**level
            stride = 2 if level > previous else 1
            options = width, stride, norm_cfg, align_corners
            cell = Cell(self.arch.cell, channels[-1], channels[-2], *options)
            self.cells.append(cell)
            channels.append(self.arch.num_blocks * width)
            previous = level
        self.out_channels = [channels[layer + 2] for layer in self.out_layers]
        for module in self._frozen_modules():
            module.requires_grad_(False)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        last = self.arch.stages[self.frozen_stages].last_layer
        return [self.stem, *self.cells[: last + 1]]

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """Refuse a supernet, which MMEngine would load without a weight."""
        if f'{prefix}alphas' in state_dict:
            raise UserError(
                'the checkpoint is that of a search, whose weights fit no '
                'cell of a derived network: decode it with tools/decode.py, '
                'retrain the result, and give a checkpoint of that.'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def train(self, mode: bool = True) -> 'AutoDeepLab':
        """Set the mode; what is frozen stays in evaluation."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def set_keep_probs(self, keep_probs: Sequence[float]) -> None:
        """Set the probability that drop path keeps, one for each cell."""
        for cell, keep_prob in zip(self.cells, keep_probs):
            cell.keep_prob = keep_prob

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Run the path on images (N, in_channels, H, W).

        Returns:
            tuple[Tensor]: One feature per entry of ``out_indices``, at stride
            s of (N, B * F * s / 4, ceil(H / s), ceil(W / s)).
        """
        if self.training:
            check_training_size(x.shape[2:])
        sizes = level_sizes(x.shape[2:])
        with_cp = self.with_cp and torch.is_grad_enabled()
        features = list(self.stem(x))
        previous = 0
        for level, cell in zip(self.arch.levels, self.cells):
            prev, source = features[-2:]
            if level < previous:
                source = resize(source, sizes[level], self.align_corners)
            features.append(
                checkpointed(cell, source, prev)
                if with_cp
                else cell(source, prev)
            )
            previous = level
        if len(self.cells) == self.arch.num_layers:
            features[-1] = features[-1].relu()
        return tuple(features[layer + 2] for layer in self.out_layers)
