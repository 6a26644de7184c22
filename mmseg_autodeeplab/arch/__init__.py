"""Architectures as data: numpy only, no torch."""

from .architecture import Architecture
from .autodeeplab import AutoDeepLabArchitecture, AutoDeepLabSpace, Connection
from .cost import QUANTITIES, CostTables, cost_tables, expected_cost, one_hot
from .decode import (
    SCORES,
    alpha_entropy,
    alpha_probabilities,
    are_sharp,
    best_cells,
    best_paths,
    beta_entropy,
    beta_probabilities,
    check_score,
    decode,
    decode_cell,
    decode_path,
    disagreement,
    path_score,
    transition_scores,
)
from .dpc import Branch, DPCArchitecture, DPCSpace
from .primitives import PRIMITIVES, Conv, Primitive, decodable, index_of
from .space import Space
from .templates import (
    Template,
    TemplateArchitecture,
    TemplateLayer,
    TemplateSpace,
)
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
