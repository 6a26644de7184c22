"""PASCAL-Person-Part, people in parts."""

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

# PASCAL VOC's colours of these indices.
COLOURS = {
    'background': [0, 0, 0],
    'head': [128, 0, 0],
    'torso': [0, 128, 0],
    'upper arms': [128, 128, 0],
    'lower arms': [0, 0, 128],
    'upper legs': [128, 0, 128],
    'lower legs': [0, 128, 128],
}


@DATASETS.register_module()
class PascalPersonPartDataset(BaseSegDataset):
    """PASCAL-Person-Part: 1716 / 1817 images of PASCAL VOC 2010, 7 classes.

    Chen et al., "Detect What You Can" (CVPR 2014); parts merged by Chen et
    al., "Attention to Scale" (CVPR 2016). Labels are PNG files of 0 to 6, and
    255 where nothing counts. ``tools/dataset_converters/person_part.py`` makes
    a data root of what is public.
    """

    METAINFO = dict(classes=tuple(COLOURS), palette=list(COLOURS.values()))
