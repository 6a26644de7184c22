"""DPC: a dense prediction cell, and the space of such cells.

Chen et al., "Searching for Efficient Multi-Scale Architectures for Dense Image
Prediction", NeurIPS 2018.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Optional

from .architecture import Architecture, refuse, refuse_counts
from .space import Choose, Space

FEATURE = -1  # the input that is the backbone's feature
OPS = ('conv', 'pyramid_pooling')
# What may be drawn (Sec. 3.1), per direction.
RATES = (1, 3, 6, 9, 12, 15, 18, 21)
GRIDS = (1, 2, 4, 8)


class Branch(NamedTuple):
    """One branch: what it reads, and its operation."""

    #: -1 is the backbone's feature, i the output of branch i.
    input: int
    #: ``'conv'`` or ``'pyramid_pooling'``.
    op: str
    #: Of a convolution: 1, or 3 for a depthwise separable one.
    kernel: Optional[int] = None
    #: Atrous rates (height, width) of a 3x3 convolution at output stride 16.
    rate: Optional[tuple[int, int]] = None
    #: Cells (height, width) of the grid of a pooling.
    grid_size: Optional[tuple[int, int]] = None

    def content(self) -> dict:
        """What it has, as in a file."""
        values = self._asdict().items()
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values
            if value is not None
        }

    @property
    def operation(self) -> tuple:
        """What it does, whatever it reads."""
        return self[1:]

    @property
    def label(self) -> str:
        """The operation in a few characters."""
        if self.op == 'pyramid_pooling':
            return f'pooling {self.grid_size[0]}×{self.grid_size[1]}'
        if self.kernel == 1:
            return 'conv 1×1'
        return f'conv 3×3, rate {self.rate[0]}×{self.rate[1]}'


@dataclass(frozen=True)
class DPCArchitecture(Architecture):
    """A cell of branches; a UserError where a value is not allowed."""

    schema: ClassVar[str] = 'mmseg_autodeeplab/dpc'
    # The authors' files are the list of branches.
    bare: ClassVar[str] = 'branches'

    #: A branch reads the feature or an earlier branch. The output is all of
    #: them side by side.
    branches: tuple[Branch, ...]
    provenance: Mapping = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        branches = self.branches
        if not isinstance(branches, (list, tuple)) or not branches:
            refuse('branches', branches, 'a list of branches, not empty')
        parsed = tuple(_parse(b, i) for i, b in enumerate(branches))
        object.__setattr__(self, 'branches', parsed)
        super().__post_init__()

    def content(self) -> dict:
        """The branches, as in a config."""
        return dict(branches=[branch.content() for branch in self.branches])

    def describe(self) -> str:
        """One short line per branch, for logs."""
        return '\n'.join(
            f'{i}: {branch.label} of '
            f'{"the feature" if branch.input == FEATURE else branch.input}'
            for i, branch in enumerate(self.branches)
        )

    def space(self) -> 'DPCSpace':
        """All cells of as many branches."""
        return DPCSpace(len(self.branches))


@dataclass(frozen=True)
class DPCSpace(Space):
    """All cells of B branches, of 81 operations each (Sec. 3.1).

    A 1x1 convolution, 64 pairs of rates, and 16 grids.
    """

    num_branches: int = 5

    architecture: ClassVar[type] = DPCArchitecture
    #: All that a branch may do.
    operations: ClassVar[tuple[tuple, ...]] = (
        ('conv', 1, None, None),
        *(('conv', 3, r, None) for r in itertools.product(RATES, repeat=2)),
        *(
            ('pyramid_pooling', None, None, grid)
            for grid in itertools.product(GRIDS, repeat=2)
        ),
    )

    def __post_init__(self) -> None:
        refuse_counts(vars(self))

    def draw(self, choose: Choose) -> DPCArchitecture:
        """Choose the input and the operation of one branch after another.

        One choice of 81: with nested ones, of a kind and then of its rates,
        a third of the branches would be poolings.
        """
        return DPCArchitecture(
            [
                Branch(
                    choose(f'input_{i}', range(FEATURE, i)),
                    *choose(f'operation_{i}', self.operations),
                )
                for i in range(self.num_branches)
            ]
        )

    def choices(self, architecture: DPCArchitecture) -> dict[str, Any]:
        """What :meth:`draw` has to choose for an architecture."""
        found = {}
        for i, branch in enumerate(architecture.branches):
            found[f'input_{i}'] = branch.input
            found[f'operation_{i}'] = branch.operation
        return found

    def count(self) -> int:
        """Number of cells: B! 81^B, 4.2e11 for 5 branches."""
        branches = self.num_branches
        return math.factorial(branches) * len(self.operations) ** branches


def _parse(found: Any, index: int) -> Branch:
    name = f'branches[{index}]'
    if isinstance(found, Branch):
        found = found.content()
    if not isinstance(found, Mapping):
        refuse(name, found, 'an object with input and op')
    op = found.get('op')
    if op not in OPS:
        refuse(f'{name}.op', op, ' or '.join(OPS))
    allowed = dict(input=None, op=None)
    allowed.update(
        dict(kernel=None, rate=None) if op == 'conv' else dict(grid_size=None)
    )
    if unknown := [key for key in found if key not in allowed]:
        refuse(name, unknown[0], f'of the fields {", ".join(allowed)} of {op}')
    source = found.get('input')
    if type(source) is not int or not FEATURE <= source < index:
        last = f' to {index - 1}, an earlier branch' if index else ''
        refuse(f'{name}.input', source, f'-1, the feature,{last}'.rstrip(','))
    if op == 'pyramid_pooling':
        grid = _pair(found.get('grid_size'), f'{name}.grid_size')
        return Branch(source, op, grid_size=grid)
    kernel = found.get('kernel')
    if isinstance(kernel, (list, tuple)) and len({*map(str, kernel)}) == 1:
        kernel = kernel[0]  # As the authors may write it.
    if type(kernel) is not int or kernel not in (1, 3):
        refuse(f'{name}.kernel', kernel, '1 or 3')
    if kernel == 1:  # A rate changes nothing there.
        return Branch(source, op, kernel)
    return Branch(source, op, kernel, _pair(found.get('rate'), f'{name}.rate'))


def _pair(found: Any, name: str) -> tuple[int, int]:
    if not (
        isinstance(found, (list, tuple))
        and len(found) == 2
        and all(type(value) is int and value > 0 for value in found)
    ):
        refuse(name, found, 'two integers of 1 or more, height and width')
    return tuple(found)
