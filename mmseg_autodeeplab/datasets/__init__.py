"""Samplers and data sets that MMSegmentation lacks."""

from .camvid import CamVidDataset
from .checked_pipeline import CheckedPipeline
from .shapes import ShapesDataset
from .split_sampler import SplitInfiniteSampler

__all__ = [
    'CamVidDataset',
    'CheckedPipeline',
    'ShapesDataset',
    'SplitInfiniteSampler',
]
