"""Published architectures by name, and what an ``arch=`` argument may be."""

from collections.abc import Mapping
from typing import Union

from ..errors import UserError
from .genotype import Architecture, Connection, short

ZOO = {
    # hnasnet in the authors' code (tensorflow/models, research/deeplab):
    # the one architecture behind Auto-DeepLab-S, -M and -L, which differ in
    # the filter multiplier alone (20, 32, 48).
    'autodeeplab': Architecture(
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
}


def get_architecture(arch: Union[str, Mapping, Architecture]) -> Architecture:
    """Resolve an ``arch=`` argument.

    Args:
        arch (str | dict | Architecture): A name in the zoo, the path of a
            JSON file, or the content of one.

    Raises:
        UserError: If it is none of these.
    """
    if isinstance(arch, Architecture):
        return arch
    if isinstance(arch, Mapping):
        return Architecture.from_dict(arch, where='arch')
    if isinstance(arch, str):
        if arch in ZOO:
            return ZOO[arch]
        if arch.endswith('.json'):
            return Architecture.load(arch)
    raise UserError(
        f'arch is {short(arch)}, but must be a name in the zoo '
        f'({", ".join(ZOO)}), the path of a .json file or a dict with cell '
        'and path.'
    )
