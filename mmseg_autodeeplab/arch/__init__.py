"""Architectures as data: numpy only, no torch."""

from .architecture import Architecture
from .autodeeplab import (
    AutoDeepLabArchitecture,
    AutoDeepLabSpace,
    Connection,
    Stage,
)
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
from .primitives import PRIMITIVES, Conv, Primitive, decodable, index_of
from .trellis import (
    DIRECTIONS,
    MIN_LAYERS,
    RATES,
    block_edges,
    count_paths,
    incoming,
    levels_at,
    num_blocks_of,
    num_edges,
    transition_mask,
)
from .zoo import ZOO, get_architecture

__all__ = [
    'DIRECTIONS',
    'MIN_LAYERS',
    'PRIMITIVES',
    'QUANTITIES',
    'RATES',
    'ZOO',
    'Architecture',
    'AutoDeepLabArchitecture',
    'AutoDeepLabSpace',
    'Connection',
    'Conv',
    'CostTables',
    'Primitive',
    'Stage',
    'alpha_entropy',
    'alpha_probabilities',
    'beta_entropy',
    'beta_probabilities',
    'block_edges',
    'cost_tables',
    'count_paths',
    'decodable',
    'decode',
    'decode_cell',
    'decode_path',
    'expected_cost',
    'get_architecture',
    'incoming',
    'index_of',
    'levels_at',
    'num_blocks_of',
    'num_edges',
    'one_hot',
    'transition_mask',
]
