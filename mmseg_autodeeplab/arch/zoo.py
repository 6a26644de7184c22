"""Published architectures by name, and what an ``arch=`` argument may be."""

from collections.abc import Mapping
from typing import Union

from .architecture import Architecture, Kind, refuse
from .autodeeplab import AutoDeepLabArchitecture, Connection
from .dpc import Branch, DPCArchitecture
from .templates import TemplateArchitecture

TEMPLATES = dict(
    paper='https://arxiv.org/abs/1904.02365', searched_on='Cityscapes'
)
# fmt: off
# The two that the authors published, in the numbers of their code.
ARCH0 = (
    3, 0, 1,  4, 1, 1,  3, 1, 1,
    0, 1, 0, 0, 1,  2, 1, 2, 1, 0,  3, 1, 1, 1, 0,  1, 1, 2, 0, 0,
    3, 0, 2, 0, 0,  5, 3, 2, 1, 0,  0, 5, 0, 1, 0,
)
ARCH1 = (
    1, 1, 0,  1, 3, 0,  3, 4, 0,
    1, 1, 0, 0, 0,  0, 1, 1, 1, 1,  3, 1, 2, 3, 0,  3, 0, 2, 2, 0,
    0, 1, 2, 0, 0,  2, 1, 1, 3, 0,  4, 0, 2, 2, 0,
)
# fmt: on
ZOO = {
    # hnasnet in the authors' code (tensorflow/models, research/deeplab):
    # the one architecture behind Auto-DeepLab-S, -M and -L, which differ in
    # the filter multiplier alone (20, 32, 48).
    'autodeeplab': AutoDeepLabArchitecture(
        cell=(
            (Connection(1, 'atrous_conv_5x5'), Connection(0, 'sep_conv_3x3')),
            (Connection(1, 'sep_conv_3x3'), Connection(0, 'atrous_conv_3x3')),
            (Connection(3, 'sep_conv_3x3'), Connection(1, 'sep_conv_3x3')),
            (Connection(4, 'sep_conv_5x5'), Connection(2, 'sep_conv_5x5')),
            (Connection(3, 'sep_conv_5x5'), Connection(5, 'atrous_conv_5x5')),
        ),
        path=(4, 4, 4, 8, 16, 8, 16, 16, 32, 32, 16, 8),
        provenance=dict(
            paper='https://arxiv.org/abs/1901.02985', searched_on='Cityscapes'
        ),
    ),
    # dense_prediction_cell_branch5_top1_cityscapes in the authors' code, the
    # one cell that they published.
    'dpc': DPCArchitecture(
        branches=(
            Branch(-1, 'conv', 3, (1, 6)),
            Branch(0, 'conv', 3, (18, 15)),
            Branch(1, 'conv', 3, (6, 3)),
            Branch(0, 'conv', 3, (1, 1)),
            Branch(0, 'conv', 3, (6, 21)),
        ),
        provenance=dict(
            paper='https://arxiv.org/abs/1809.04184', searched_on='Cityscapes'
        ),
    ),
    **{
        name: TemplateArchitecture.from_vector(v).with_provenance(**TEMPLATES)
        for name, v in dict(arch0=ARCH0, arch1=ARCH1).items()
    },
}


def get_architecture(
    arch: Union[str, Mapping, Architecture], kind: type[Kind] = Architecture
) -> Kind:
    """Resolve an ``arch=`` argument.

    It is a name in the zoo, the path of a JSON file, or the content of one,
    and has to be of a kind; the base is any.

    Raises:
        UserError: It is none of these, or of another kind.
    """
    if isinstance(arch, Mapping):
        return kind.from_dict(arch, where='arch')
    names = [name for name, found in ZOO.items() if isinstance(found, kind)]
    if isinstance(arch, str) and arch.endswith('.json'):
        return kind.load(arch)
    found = ZOO.get(arch) if isinstance(arch, str) else arch
    if isinstance(found, kind):
        return found
    allowed = f'a name in the zoo ({", ".join(names)}), the path of a .json'
    refuse('arch', arch, f'{allowed} file or the content of one')
