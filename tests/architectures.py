"""Architectures for tests."""

from mmseg_autodeeplab.arch import AutoDeepLabArchitecture, AutoDeepLabSpace

# Every primitive and every scale; six stages of one cell.
SMALL = dict(
    schema='mmseg_autodeeplab/architecture',
    version=1,
    cell=[
        [
            dict(input=1, op='atrous_conv_5x5'),
            dict(input=0, op='sep_conv_3x3'),
        ],
        [
            dict(input=2, op='avg_pool_3x3'),
            dict(input=1, op='skip_connect'),
        ],
        [
            dict(input=3, op='sep_conv_5x5'),
            dict(input=0, op='max_pool_3x3'),
        ],
        [
            dict(input=0, op='atrous_conv_3x3'),
            dict(input=4, op='skip_connect'),
        ],
    ],
    path=[4, 8, 16, 32, 16, 8],
)


def random_architecture(
    num_blocks: int, num_layers: int, seed: int
) -> AutoDeepLabArchitecture:
    """One of so many blocks and layers; the same seed gives the same one."""
    return AutoDeepLabSpace(num_layers, num_blocks).random(seed)
