"""Samplers and data sets that MMSegmentation lacks."""

from .camvid import CamVidDataset
from .shapes import ShapesDataset
from .split_sampler import SplitInfiniteSampler

__all__ = ['CamVidDataset', 'ShapesDataset', 'SplitInfiniteSampler']
