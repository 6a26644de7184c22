"""Building blocks of the networks."""

from .cell import Cell, Stem
from .functional import (
    check_training_size,
    checkpointed,
    level_sizes,
    masked_softmax,
    resize,
)
from .graphs import TrainingGraphs, side_by_side
from .operations import ReLUConvNorm, build_operation
from .relaxed_cell import CELLS, RelaxedNode
