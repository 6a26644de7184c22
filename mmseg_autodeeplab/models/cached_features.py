"""Frozen backbones, and what stands for one whose features are cached."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModule
from mmseg.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class FrozenBackbone(BaseModule):
    """Any backbone as it was loaded: nothing in it is trained.

    Its batch norm has the statistics that were loaded. Not every backbone can
    be frozen whole by settings of its own: ``MobileNetV2`` cannot.

    Args:
        backbone (dict): Its config, with its ``init_cfg``.
    """

    def __init__(self, backbone: dict) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone).requires_grad_(False)

    def train(self, mode: bool = True) -> 'FrozenBackbone':
        """Stay as in evaluation."""
        super().train(False)
        # Some freeze and thaw themselves by it.
        self.backbone.requires_grad_(False)
        return self

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        """What the backbone gives."""
        return self.backbone(x)


@MODELS.register_module()
class CachedFeatures(BaseModule):
    """The backbone of ``CachedFeaturesDataset``: it hands features on."""

    def forward(self, features: list) -> list:
        """Features as another backbone gave them, None where none is read."""
        return features


@MODELS.register_module()
class CachedFeaturesPreProcessor(BaseDataPreprocessor):
    """Stack the features of a batch of ``CachedFeaturesDataset``."""

    def forward(self, data: dict, training: bool = False) -> dict[str, Any]:
        """Give ``inputs`` as a list of tensors (N, C, H, W), or None."""
        data = self.cast_data(data)
        data['inputs'] = [
            None if one[0] is None else torch.stack(list(one))
            for one in data['inputs']
        ]
        return data
