"""Architectures as data: numpy only, no torch."""

from .collapse import signs_of_collapse
from .cost import (
    QUANTITIES,
    CostTables,
    cost_tables,
    expected_cost,
    one_hot,
)
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
    'QUANTITIES',
    'RATES',
    'ZOO',
    'Architecture',
    'Connection',
    'CostTables',
    'Stage',
    'alpha_entropy',
    'alpha_probabilities',
    'beta_entropy',
    'beta_probabilities',
    'block_edges',
    'cost_tables',
    'count_cells',
    'count_paths',
    'decode',
    'decode_cell',
    'decode_path',
    'expected_cost',
    'get_architecture',
    'incoming',
    'levels_at',
    'num_edges',
    'one_hot',
    'random_architecture',
    'signs_of_collapse',
    'transition_mask',
]
