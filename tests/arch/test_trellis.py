"""Counts and indices against the paper and against enumeration."""

import itertools

import pytest

from mmseg_autodeeplab.arch import (
    PRIMITIVES,
    RATES,
    AutoDeepLabSpace,
    block_edges,
    count_paths,
    incoming,
    levels_at,
    num_blocks_of,
    num_edges,
    transition_mask,
)


def all_paths(num_layers):
    """Every walk on 4-8-16-32 from the stem, by brute force."""
    for levels in itertools.product(range(4), repeat=num_layers):
        if all(abs(a - b) <= 1 for a, b in zip((0, *levels), levels)):
            yield levels


def test_counts_of_the_paper():
    assert AutoDeepLabSpace().count_cells() == 556_627_761_561_600  # 5.6e14
    assert AutoDeepLabSpace().count_paths() == count_paths(12) == 75_025
    assert count_paths(11) == 28_657  # 2.9e4, the paper's own number
    assert transition_mask(12).sum() == 105
    assert num_edges(5) == 20


@pytest.mark.parametrize('num_layers', range(1, 8))
def test_paths_are_counted_as_enumerated(num_layers):
    assert count_paths(num_layers) == len(list(all_paths(num_layers)))


@pytest.mark.parametrize('num_blocks', [1, 2])
def test_cells_are_counted_as_enumerated(num_blocks):
    blocks = [
        len(list(itertools.product(range(b + 2), PRIMITIVES, repeat=2)))
        for b in range(num_blocks)
    ]
    total = 1
    for count in blocks:
        total *= count
    assert AutoDeepLabSpace(3, num_blocks).count_cells() == total


@pytest.mark.parametrize('num_blocks', [1, 3, 5, 7])
def test_edges_are_ordered_by_block_then_state(num_blocks):
    edges = [
        (block, state)
        for block in range(num_blocks)
        for state in range(block + 2)
    ]
    assert num_edges(num_blocks) == len(edges)
    assert num_blocks_of(len(edges)) == num_blocks
    for block in range(num_blocks):
        for state, edge in enumerate(block_edges(block)):
            assert edges[edge] == (block, state)


@pytest.mark.parametrize('wrong', [0, 1, 3, 19, 21])
def test_a_number_of_edges_that_no_cell_has(wrong):
    with pytest.raises(ValueError, match=f'{wrong} edges were found'):
        num_blocks_of(wrong)


@pytest.mark.parametrize('num_layers', [3, 5, 12])
def test_transitions_are_those_that_walks_take(num_layers):
    taken = set()
    for levels in all_paths(min(num_layers, 6)):
        for layer, (source, target) in enumerate(zip((0, *levels), levels)):
            taken.add((layer, source, target - source + 1))
    mask = transition_mask(num_layers)
    found = {tuple(map(int, i)) for i in zip(*mask[:6].nonzero())}
    assert found == taken


@pytest.mark.parametrize('layer', range(5))
def test_incoming_agrees_with_the_mask(layer):
    mask = transition_mask(5)
    found = {
        (source, direction)
        for level in levels_at(layer)
        for source, direction in incoming(layer, level)
    }
    assert found == {tuple(map(int, i)) for i in zip(*mask[layer].nonzero())}
    for level in levels_at(layer):
        edges = incoming(layer, level)
        assert edges == sorted(edges)  # finest source first
        assert all(
            source + direction - 1 == level for source, direction in edges
        )


def test_scales():
    assert RATES == (4, 8, 16, 32)
    assert [len(levels_at(layer)) for layer in range(-1, 4)] == [1, 2, 3, 4, 4]
