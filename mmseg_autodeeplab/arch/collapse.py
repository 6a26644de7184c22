"""What the architecture of a search that has collapsed looks like."""

from .genotype import Architecture


def signs_of_collapse(architecture: Architecture) -> list[str]:
    """Say in what an architecture is degenerate.

    Gradient-based search may end in cells of skip connections, which train
    fastest while the weights are poor, and in one scale for all layers.

    Args:
        architecture (Architecture): As decoded.

    Returns:
        list[str]: One clause where more than half of the connections are
        ``skip_connect``, one where all layers have the same scale.
    """
    ops = [
        connection.op for block in architecture.cell for connection in block
    ]
    skips = ops.count('skip_connect')
    signs = []
    if 2 * skips > len(ops):
        signs.append(f'{skips} of {len(ops)} connections are skip_connect')
    if len(set(architecture.path)) == 1:
        signs.append(f'all layers are at stride {architecture.path[0]}')
    return signs
