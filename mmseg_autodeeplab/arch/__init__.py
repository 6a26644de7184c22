"""Architectures as data: numpy only, no torch."""

from .decode import (
    alpha_entropy,
    alpha_probabilities,
    beta_entropy,
    beta_probabilities,
    decode,
    decode_cell,
    decode_path,
)
from .genotype import Architecture, Connection, Stage
from .sample import random_architecture
from .search_space import (
    PRIMITIVES,
    RATES,
    block_edges,
    count_cells,
    count_paths,
    incoming,
    levels_at,
    num_edges,
    transition_mask,
)
from .zoo import ZOO, get_architecture

__all__ = [
    'PRIMITIVES',
    'RATES',
    'ZOO',
    'Architecture',
    'Connection',
    'Stage',
    'alpha_entropy',
    'alpha_probabilities',
    'beta_entropy',
    'beta_probabilities',
    'block_edges',
    'count_cells',
    'count_paths',
    'decode',
    'decode_cell',
    'decode_path',
    'get_architecture',
    'incoming',
    'levels_at',
    'num_edges',
    'random_architecture',
    'transition_mask',
]
