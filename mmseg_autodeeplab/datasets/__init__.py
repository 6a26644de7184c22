"""Data sets, samplers, transforms and metrics MMSegmentation lacks."""

from .cached_features import CachedFeaturesDataset
from .camvid import CamVidDataset
from .loading import (
    LoadCheckedAnnotations,
    LoadCheckedImage,
    check_pipelines,
    transforms_in,
    uncheck_pipelines,
)
from .metrics import FrequencyWeightedIoUMetric
from .person_part import PascalPersonPartDataset
from .shapes import ShapesDataset
from .split_sampler import SplitInfiniteSampler
