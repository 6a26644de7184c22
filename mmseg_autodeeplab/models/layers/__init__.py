"""Building blocks of the networks."""

from .cell import Cell
from .checkpoint import checkpointed
from .compiled import NotCompiledWarning, call_module, compile_in_place
from .fused_cell import FusedRelaxedCell
from .initializers import FanInUniformInit
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
    'NotCompiledWarning',
    'ReLUConvNorm',
    'RelaxedCell',
    'RelaxedNode',
    'Stem',
    'build_operation',
    'call_module',
    'check_training_size',
    'checkpointed',
    'compile_in_place',
    'level_sizes',
    'resize',
]
