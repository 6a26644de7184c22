"""Random architectures: valid, reproducible, each as likely as any other."""

from collections import Counter

import pytest

from mmseg_autodeeplab.arch import count_paths, random_architecture


def test_all_paths_are_equally_likely():
    """13 paths of three layers; a local coin at each step would prefer some.

    Chi-square with 12 degrees of freedom is below 32.9 in 99.9 % of draws.
    """
    draws = 2000
    counts = Counter(random_architecture(1, 3, s).path for s in range(draws))
    assert len(counts) == count_paths(3) == 13
    expected = draws / 13
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 32.9


def test_blocks_read_two_distinct_states_and_any_primitive():
    cells = [random_architecture(3, 3, seed).cell for seed in range(300)]
    pairs = Counter(tuple(sorted(c.input for c in cell[2])) for cell in cells)
    assert set(pairs) == {(a, b) for b in range(4) for a in range(b)}
    assert len({c.op for cell in cells for block in cell for c in block}) == 7


@pytest.mark.parametrize('seed', [0, 1])
def test_the_seed_decides(seed):
    assert random_architecture(5, 12, seed) == random_architecture(5, 12, seed)
    assert random_architecture(5, 12, seed) != random_architecture(5, 12, 9)
