"""The first stages of MobileNetV2."""

from collections import OrderedDict
from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmseg.models import MobileNetV2
from mmseg.registry import MODELS
from torch import nn


@MODELS.register_module()
class TruncatedMobileNetV2(MobileNetV2):
    """MMSegmentation's, without the stages behind the last that is read.

    It loads the weights of the whole one.

    Args:
        out_indices (Sequence[int]): Stages whose outputs are returned, from 0:
            by default those at strides 4 and 8.
        expand_first (bool): Whether the first stage begins with a 1x1
            convolution of its own, norm and ReLU6, as the others do and as in
            Nekrasov et al., WACV 2020. Weights of ImageNet have none.
        kwargs: Of ``MobileNetV2``.
    """

    def __init__(
        self,
        out_indices: Sequence[int] = (1, 2),
        expand_first: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(out_indices=out_indices, **kwargs)
        for name in self.layers[max(out_indices) + 1 :]:
            delattr(self, name)
        self.layers = self.layers[: max(out_indices) + 1]
        if expand_first:
            width = self.conv1.out_channels
            expand = ConvModule(
                width,
                width,
                1,
                conv_cfg=self.conv_cfg,
                norm_cfg=self.norm_cfg,
                act_cfg=self.act_cfg,
            )
            # In front, by a name of its own: the keys of the others stay.
            blocks = dict(self.layer1.named_children())
            self.layer1 = nn.Sequential(OrderedDict(expand=expand, **blocks))

    def train(self, mode: bool = True) -> 'TruncatedMobileNetV2':
        """Return itself, which MMSegmentation's does not."""
        super().train(mode)
        return self
