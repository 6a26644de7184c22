"""Random architectures, the baseline that a search has to beat."""

import numpy as np

from .genotype import DECODABLE, Architecture, Connection
from .search_space import NUM_LEVELS, RATES, count_paths


def random_architecture(
    num_blocks: int, num_layers: int, seed: int
) -> Architecture:
    """Draw from what :func:`decode` can give, each as likely as any other.

    Every block reads two distinct states, each through any primitive but
    ``none``; the path is one of all ``count_paths(num_layers)``.

    Args:
        num_blocks (int): B, at least 1.
        num_layers (int): L, at least 1.
        seed (int): The same seed gives the same architecture.
    """
    # RandomState's stream is frozen across numpy versions.
    rng = np.random.RandomState(seed)
    cell = [
        [
            Connection(int(state), DECODABLE[rng.randint(len(DECODABLE))])
            for state in rng.permutation(block + 2)[:2]
        ]
        for block in range(num_blocks)
    ]
    path, level = [], 0
    for layer in range(num_layers):
        targets = range(max(level - 1, 0), min(level + 2, NUM_LEVELS))
        ways = np.array(
            [count_paths(num_layers - layer - 1, start=t) for t in targets]
        )
        level = int(rng.choice(targets, p=ways / ways.sum()))
        path.append(RATES[level])
    return Architecture(cell, path, dict(random_seed=seed))
