"""Building blocks of the networks."""

from .cell import Cell
from .checkpoint import checkpointed
from .fused_cell import FusedRelaxedCell
from .initializers import FanInUniformInit
from .masked_softmax import masked_softmax
from .operations import ReLUConvNorm, build_operation, resize
from .relaxed_cell import CELLS, MixedOperation, RelaxedCell, RelaxedNode
from .sizes import check_training_size, level_sizes
from .stem import Stem

__all__ = [
    'CELLS',
    'Cell',
    'FanInUniformInit',
    'FusedRelaxedCell',
    'MixedOperation',
    'ReLUConvNorm',
    'RelaxedCell',
    'RelaxedNode',
    'Stem',
    'build_operation',
    'check_training_size',
    'checkpointed',
    'level_sizes',
    'masked_softmax',
    'resize',
]
