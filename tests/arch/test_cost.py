"""The expected cost against hand counts and enumeration.

Against networks that are built: tests/models/test_cost_of_networks.py.
"""

import itertools

import numpy as np
import pytest
from architectures import random_architecture

from mmseg_autodeeplab.arch import (
    QUANTITIES,
    ZOO,
    AutoDeepLabArchitecture,
    alpha_probabilities,
    beta_probabilities,
    block_edges,
    cost_tables,
    count_paths,
    decodable,
    expected_cost,
    num_edges,
    one_hot,
)

SMALL = dict(filter_multiplier=3, stem_channels=2, in_channels=1)


def soft(num_blocks, num_layers, seed=0):
    """Softmaxed alphas and betas, far from uniform."""
    rng = np.random.RandomState(seed)
    return (
        alpha_probabilities(2 * rng.randn(num_edges(num_blocks), 8)),
        beta_probabilities(2 * rng.randn(num_layers, 4, 3)),
    )


def all_paths(num_layers):
    for levels in itertools.product(range(4), repeat=num_layers):
        if all(abs(a - b) <= 1 for a, b in zip((0, *levels), levels)):
            yield [4 * 2**level for level in levels]


def test_a_network_that_is_counted_by_hand():
    """One block, 8-4, an image of 5 x 9: 15, 6 and 2 pixels at 2, 4, 8."""
    cells = [[(0, 'skip_connect'), (1, 'sep_conv_3x3')]]
    arch = AutoDeepLabArchitecture(
        [[dict(input=i, op=op) for i, op in block] for block in cells], [8, 4]
    )
    stem = 1 * 2 * 9 * 15 + 2 * 2 * 9 * 15 + 2 * 4 * 9 * 6
    # Down: 6 channels; inputs at stride 4, outputs at 8.
    entries = (4 * 6 + 2 * 6) * 6
    down = entries + 6 * 6 * 2 + 2 * (9 * 6 + 6 * 6) * 2
    # Up: 3 channels at stride 4, where skip_connect is for nothing.
    up = (6 * 3 + 4 * 3) * 6 + 2 * (9 * 3 + 3 * 3) * 6
    tables = cost_tables(1, 2, shape=(5, 9), **SMALL)
    assert expected_cost(tables, *one_hot(arch)) == stem + down + up

    norms = 2 * (2 + 2 + 4) + 2 * (6 + 6 + 6 + 6 + 6) + 2 * (3 + 3 + 3 + 3)
    weights = 18 + 36 + 72 + 24 + 12 + 36 + 2 * 90 + 18 + 12 + 2 * 36
    tables = cost_tables(1, 2, 'parameters', **SMALL)
    assert expected_cost(tables, *one_hot(arch)) == weights + norms


def test_the_published_backbone():
    alphas, betas = one_hot(ZOO['autodeeplab'])
    tables = cost_tables(5, 12, 'parameters')
    assert expected_cost(tables, alphas, betas) == 7_030_832


@pytest.mark.parametrize('quantity', QUANTITIES)
@pytest.mark.parametrize('num_layers', [1, 2, 3, 4])
@pytest.mark.parametrize('num_blocks', [1, 2])
def test_it_is_the_mean_over_all_paths(num_blocks, num_layers, quantity):
    alphas, betas = soft(num_blocks, num_layers)
    tables = cost_tables(
        num_blocks, num_layers, quantity, shape=(97, 130), **SMALL
    )
    cell = random_architecture(num_blocks, 1, 0).cell
    mean, total = 0, 0
    for path in all_paths(num_layers):
        chosen = one_hot(AutoDeepLabArchitecture(cell, path))[1]
        probability = betas[chosen > 0].prod()
        mean += probability * expected_cost(tables, alphas, chosen)
        total += probability
    assert total == pytest.approx(1, rel=1e-12)
    assert len(list(all_paths(num_layers))) == count_paths(num_layers)
    found = expected_cost(tables, alphas, betas)
    assert found == pytest.approx(mean, rel=1e-12)
    # Both have a say, so that this is not trivially right.
    other_alphas, other_betas = soft(num_blocks, num_layers, seed=1)
    for other in ((other_alphas, betas), (alphas, other_betas)):
        assert abs(expected_cost(tables, *other) / found - 1) > 1e-4


@pytest.mark.parametrize('quantity', QUANTITIES)
@pytest.mark.parametrize('path', [(4, 8, 16), (8, 4, 4), (8, 16, 8)])
def test_a_relaxed_block_is_twice_the_mean_of_its_edges(path, quantity):
    """Each primitive on each edge weighed on its own, in whole networks."""
    num_blocks = 3
    tables = cost_tables(
        num_blocks, len(path), quantity, shape=(65, 96), **SMALL
    )

    def cost(cell):
        return expected_cost(
            tables, *one_hot(AutoDeepLabArchitecture(cell, path))
        )

    def block_of(state, op):
        return [dict(input=state, op=op)] * 2

    free = [block_of(0, 'max_pool_3x3')] * num_blocks
    alphas, _ = soft(num_blocks, 3)
    expected = cost(free)
    for block in range(num_blocks):
        edges = block_edges(block)
        weighted = 0
        for state, edge in enumerate(edges):
            for k, op in enumerate(decodable(), 1):
                cell = list(free)
                cell[block] = block_of(state, op)
                weighted += alphas[edge, k] * (cost(cell) - cost(free))
        expected += weighted / (1 - alphas[list(edges), 0]).sum()
    betas = one_hot(AutoDeepLabArchitecture(free, path))[1]
    found = expected_cost(tables, alphas, betas)
    assert found == pytest.approx(expected, rel=1e-12)


def test_none_everywhere_in_a_block_changes_nothing():
    """It is never decoded; only the edges' shares count."""
    alphas, betas = soft(2, 4)
    tables = cost_tables(2, 4, **SMALL)
    found = expected_cost(tables, alphas, betas)
    weaker = alphas.copy()
    edges = block_edges(1)
    weaker[edges, 1:] *= 0.01
    weaker[edges, 0] = 1 - weaker[edges, 1:].sum(1)
    assert expected_cost(tables, weaker, betas) == pytest.approx(found)
    # On one edge of it, it does.
    weaker[edges[0]] = alphas[edges[0]]
    assert expected_cost(tables, weaker, betas) != pytest.approx(found)


def test_one_hot_alphas_and_betas():
    alphas, betas = one_hot(ZOO['autodeeplab'])
    assert set(np.unique(alphas)) == set(np.unique(betas)) == {0, 1}
    assert (alphas.sum(1) == 1).all() and (alphas[:, 0] == 0).sum() == 10
    assert alphas[1, 7] == 1  # block 0 reads state 1 by atrous_conv_5x5
    assert (betas.sum((1, 2)) == 1).all()
    assert betas[3, 0, 2] == 1  # from 4 to 8


def test_an_unknown_quantity():
    with pytest.raises(ValueError, match=r"'flops', but must be 'multiply_"):
        cost_tables(2, 4, 'flops')
