"""Auto-DeepLab's space, and architectures that a search may end in."""

import hashlib
from collections import Counter

import pytest

from mmseg_autodeeplab.arch import (
    AutoDeepLabArchitecture,
    AutoDeepLabSpace,
    count_paths,
    get_architecture,
)


def draw(num_blocks, num_layers, seed):
    return AutoDeepLabSpace(num_layers, num_blocks).random(seed)


def test_all_paths_are_equally_likely():
    """13 paths of three layers; a local coin at each step would prefer some.

    Chi-square with 12 degrees of freedom is below 32.9 in 99.9 % of draws.
    """
    draws = 2000
    counts = Counter(draw(1, 3, seed).path for seed in range(draws))
    assert len(counts) == count_paths(3) == 13
    expected = draws / 13
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 32.9


def test_blocks_read_two_distinct_states_and_any_primitive():
    cells = [draw(3, 3, seed).cell for seed in range(300)]
    pairs = Counter(tuple(sorted(c.input for c in cell[2])) for cell in cells)
    assert set(pairs) == {(a, b) for b in range(4) for a in range(b)}
    assert len({c.op for cell in cells for block in cell for c in block}) == 7


@pytest.mark.parametrize('seed', [0, 1])
def test_the_seed_decides(seed):
    assert draw(5, 12, seed) == draw(5, 12, seed)
    assert draw(5, 12, seed) != draw(5, 12, 9)


def test_a_seed_draws_what_it_has_always_drawn():
    """Baselines that were retrained can be drawn again."""
    text = '\n'.join(
        draw(1 + seed % 5, 3 + seed, seed).describe() for seed in range(10)
    )
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == '7e679066f950e542'


def test_the_space_that_an_architecture_is_from():
    published = get_architecture('autodeeplab')
    assert published.space() == AutoDeepLabSpace() == AutoDeepLabSpace(12, 5)
    for wrong in (dict(num_layers=0), dict(num_blocks=1.5)):
        with pytest.raises(ValueError, match='an integer of 1 or more'):
            AutoDeepLabSpace(**wrong)


def architecture(*ops, path=(4, 8)):
    pairs = zip(ops[::2], ops[1::2])
    cell = [[dict(input=i, op=op) for i, op in enumerate(p)] for p in pairs]
    return AutoDeepLabArchitecture(cell, path)


SKIP, CONV = 'skip_connect', 'sep_conv_3x3'


@pytest.mark.parametrize(
    'ops,signs',
    [
        ((SKIP, CONV), []),
        ((SKIP, SKIP, CONV, CONV), []),
        ((SKIP, CONV, SKIP, SKIP), ['3 of 4 connections are skip_connect']),
        (('max_pool_3x3',) * 4, []),
    ],
)
def test_more_than_half_are_skip_connections(ops, signs):
    assert architecture(*ops).signs_of_collapse() == signs


@pytest.mark.parametrize('rate', [4, 8])
def test_one_scale_for_all_layers(rate):
    found = architecture(CONV, CONV, path=[rate] * 3).signs_of_collapse()
    assert found == [f'all layers are at stride {rate}']
    mixed = architecture(CONV, CONV, path=[4, 4, 8])
    assert not mixed.signs_of_collapse()


def test_what_is_not_chosen_yet_is_no_sign():
    found = architecture(SKIP, SKIP, path=[4, 4])
    skips, layers = found.signs_of_collapse()
    assert found.signs_of_collapse(path=False) == [skips]
    assert found.signs_of_collapse(cell=False) == [layers]


def test_the_published_architecture_has_no_sign():
    assert get_architecture('autodeeplab').signs_of_collapse() == []
