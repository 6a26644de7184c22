"""Data sets, samplers and transforms that MMSegmentation lacks."""

from .camvid import CamVidDataset
from .loading import (
    LoadCheckedAnnotations,
    LoadCheckedImage,
    check_pipelines,
    transforms_in,
    uncheck_pipelines,
)
from .shapes import ShapesDataset
from .split_sampler import SplitInfiniteSampler
