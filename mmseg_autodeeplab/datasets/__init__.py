"""Samplers and data sets that MMSegmentation lacks."""
from .camvid import CamVidDataset
from .split_sampler import SplitInfiniteSampler

__all__ = ['CamVidDataset', 'SplitInfiniteSampler']
