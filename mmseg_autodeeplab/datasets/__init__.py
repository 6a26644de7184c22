"""Samplers and data sets that MMSegmentation lacks."""
from .split_sampler import SplitInfiniteSampler

__all__ = ['SplitInfiniteSampler']
