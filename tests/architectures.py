"""Architectures for tests."""

from mmseg_autodeeplab.arch import AutoDeepLabArchitecture, AutoDeepLabSpace


def random_architecture(
    num_blocks: int, num_layers: int, seed: int
) -> AutoDeepLabArchitecture:
    """One of so many blocks and layers; the same seed gives the same one."""
    return AutoDeepLabSpace(num_layers, num_blocks).random(seed)
