"""Decoding against exhaustive enumeration, and the softmaxes behind it."""

import itertools

import numpy as np
import pytest

from mmseg_autodeeplab.arch import (
    PRIMITIVES,
    RATES,
    SCORES,
    alpha_entropy,
    alpha_probabilities,
    are_sharp,
    best_cells,
    best_paths,
    beta_entropy,
    beta_probabilities,
    block_edges,
    decode,
    decode_cell,
    decode_path,
    disagreement,
    num_edges,
    path_score,
    transition_mask,
    transition_scores,
)


def brute_force_path(betas):
    """The most probable of all walks, each scored on its own."""
    probabilities = beta_probabilities(betas)
    best, best_p = None, -1.0
    for levels in itertools.product(range(4), repeat=len(betas)):
        steps = [b - a for a, b in zip((0, *levels), levels)]
        if any(abs(step) > 1 for step in steps):
            continue
        p = np.prod(
            [
                probabilities[layer, source, step + 1]
                for layer, (source, step) in enumerate(
                    zip((0, *levels), steps)
                )
            ]
        )
        if p > best_p:
            best, best_p = levels, p
    return tuple(RATES[level] for level in best)


def brute_force_block(alphas, block):
    """The best two (state, primitive) pairs with distinct states."""
    probabilities = alpha_probabilities(alphas)[list(block_edges(block))]
    pairs = itertools.product(range(block + 2), range(1, len(PRIMITIVES)))
    ranked = sorted(pairs, key=lambda pair: -probabilities[pair])
    first = ranked[0]
    second = next(pair for pair in ranked if pair[0] != first[0])
    return tuple(
        (state, list(PRIMITIVES)[op]) for state, op in (first, second)
    )


@pytest.mark.parametrize('num_layers', range(1, 9))
@pytest.mark.parametrize('scale', [0.001, 1, 10])
def test_path_is_that_of_enumeration(num_layers, scale):
    rng = np.random.RandomState(num_layers)
    for _ in range(3):
        betas = scale * rng.randn(num_layers, 4, 3)
        assert decode_path(betas) == brute_force_path(betas)


@pytest.mark.parametrize('num_blocks', [1, 2, 3, 5, 7])
def test_cell_is_that_of_enumeration(num_blocks):
    rng = np.random.RandomState(num_blocks)
    for _ in range(20):
        alphas = rng.randn(num_edges(num_blocks), len(PRIMITIVES))
        assert decode_cell(alphas) == tuple(
            brute_force_block(alphas, block) for block in range(num_blocks)
        )


def enumerate_paths(betas, score):
    """All paths with their scores, each computed on its own, best first."""
    ways = transition_mask(len(betas)).sum(-1)
    probabilities = beta_probabilities(betas)

    def gain(layer, source, target):
        p = probabilities[layer, source, target - source + 1]
        if score == 'lift':
            return p * ways[layer, source]
        if score == 'inflow':
            into = [
                probabilities[layer, other, target - other + 1]
                * ways[layer, other]
                for other in range(4)
                if abs(target - other) <= 1
            ]
            share = p * ways[layer, source] / sum(into)
            return share * np.count_nonzero(into)
        return p

    found = []
    for levels in itertools.product(range(4), repeat=len(betas)):
        walk = list(enumerate(zip((0, *levels), levels)))
        if all(abs(b - a) <= 1 for _, (a, b) in walk):
            gains = [gain(i, a, b) for i, (a, b) in walk]
            path = tuple(RATES[level] for level in levels)
            found.append((path, np.log(gains).sum()))
    return sorted(found, key=lambda one: -one[1])


@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('num_layers', range(1, 8))
@pytest.mark.parametrize('scale', [0.001, 1])
def test_k_best_paths_are_those_of_enumeration(num_layers, scale, score):
    betas = scale * np.random.RandomState(num_layers).randn(num_layers, 4, 3)
    expected = enumerate_paths(betas, score)
    for k in (1, 2, 7, 50):
        paths, scores = zip(*best_paths(betas, k, score))
        assert list(paths) == [path for path, _ in expected[:k]]
        np.testing.assert_allclose(scores, [s for _, s in expected[:k]])
        assert [path_score(betas, path, score) for path in paths] == (
            pytest.approx(scores)
        )


@pytest.mark.parametrize('num_blocks', [1, 2])
@pytest.mark.parametrize('seed', range(3))
def test_k_best_cells_are_those_of_enumeration(num_blocks, seed):
    rng = np.random.RandomState(seed)
    alphas = rng.randn(num_edges(num_blocks), len(PRIMITIVES))
    log_p = np.log(alpha_probabilities(alphas))
    ops = list(PRIMITIVES)
    blocks = []
    for block in range(num_blocks):
        rows = log_p[list(block_edges(block))]
        connections = list(itertools.product(range(block + 2), range(1, 8)))
        blocks.append(
            [
                (
                    rows[a] + rows[b],
                    tuple(
                        (state, ops[op])
                        for state, op in sorted((a, b), key=lambda c: -rows[c])
                    ),
                )
                for a, b in itertools.combinations(connections, 2)
                if a[0] != b[0]
            ]
        )
    expected = sorted(
        (
            (sum(score for score, _ in cell), tuple(pair for _, pair in cell))
            for cell in itertools.product(*blocks)
        ),
        reverse=True,
    )[:50]
    cells, scores = zip(*best_cells(alphas, 50))
    assert list(cells) == [cell for _, cell in expected]
    np.testing.assert_allclose(scores, [score for score, _ in expected])


def shares(paths):
    """Of all layers, those at stride 4, 8, 16 and 32."""
    return [np.mean(np.array(paths) == rate) for rate in RATES]


@pytest.mark.parametrize(
    'sigma, probability',
    [
        (0.001, [0.96, 0.04, 0, 0]),
        (0.1, [0.93, 0.06, 0, 0.01]),
        (0.3, [0.60, 0.18, 0.07, 0.15]),
        (1, [0.38, 0.31, 0.16, 0.14]),
    ],
)
def test_the_most_probable_path_of_weak_betas_runs_along_the_border(
    sigma, probability
):
    """By its lift or inflow, it is about as likely as any of all."""
    rng = np.random.RandomState(0)
    drawn = [sigma * rng.randn(12, 4, 3) for _ in range(200)]
    found = shares([decode_path(betas) for betas in drawn])
    np.testing.assert_allclose(found, probability, atol=0.06)
    found = shares([decode_path(betas, 'lift') for betas in drawn])
    # Over all 75 025 paths: 0.20, 0.40, 0.30, 0.10.
    np.testing.assert_allclose(found, [0.20, 0.39, 0.30, 0.11], atol=0.03)
    found = shares([decode_path(betas, 'inflow') for betas in drawn])
    np.testing.assert_allclose(found, [0.18, 0.42, 0.31, 0.09], atol=0.03)


@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('end', RATES)
def test_an_end_leaves_other_ends_out(score, end):
    betas = np.random.RandomState(end).randn(5, 4, 3)
    left = [
        path for path, _ in enumerate_paths(betas, score) if path[-1] == end
    ]
    found = best_paths(betas, 1000, f'{score}:{end}')
    assert [path for path, _ in found] == left


@pytest.mark.parametrize('score', ['bias', 'inflow:', 'inflow:5', ':8', 8])
def test_no_other_score_is_known(score):
    with pytest.raises(ValueError, match="score is .*'inflow', or one with"):
        decode_path(np.zeros((3, 4, 3)), score)


def test_a_node_that_nothing_enters_has_no_best_source():
    """Probabilities that vanish are no division by zero."""
    betas = np.zeros((4, 4, 3))
    betas[3, :, 0] = 1e6  # all to the finer scale
    assert decode_path(betas, 'inflow')[-1] in (4, 8, 16)
    scores = transition_scores(betas, 'inflow')
    assert not np.isnan(scores).any() and scores.max() <= np.log(3)


def test_where_the_two_scores_disagree():
    """Of three steps, the first two are even; only the last one leans."""
    betas = np.zeros((3, 4, 3))
    betas[2, 1, 2] = np.log(2)  # 8 to 16: 1/2 instead of 1/3
    log_p, lift = f'{np.log(1 / 8):.3g}', f'{np.log(3 / 2):.3g}'
    expected = (
        'The betas do not settle the path yet: '
        f'4-4-4 (log p {log_p}, lift 0) is the most probable, '
        f'4-8-16 (log p {log_p}, lift {lift}) has the largest lift.'
    )
    assert disagreement(betas) == disagreement(betas, 'lift:8') == expected
    assert disagreement(betas, 'inflow') == ''
    betas[1, 0, 2] = 3
    assert disagreement(betas) == ''


def sharpened(count, probability, ways):
    """Logits with that probability for one of so many ways."""
    logits = np.zeros((count, ways))
    logits[:, 0] = np.log(probability * (ways - 1) / (1 - probability))
    return logits


@pytest.mark.parametrize('probability, sharp', [(0.35, False), (0.41, True)])
def test_alphas_that_have_begun_to_choose(probability, sharp):
    alphas = sharpened(20, probability, 8)
    assert are_sharp(alphas, np.zeros((12, 4, 3))) == (sharp, False)


@pytest.mark.parametrize('gain, sharp', [(0.6, False), (1.0, True)])
def test_betas_that_have_begun_to_choose(gain, sharp):
    """Of two ways, exp(0.6) : 1 is 0.65 and exp(1) : 1 is 0.73."""
    betas = np.zeros((4, 4, 3))
    betas[:, :, 1] = gain
    assert are_sharp(np.zeros((20, 8)), betas) == (False, sharp)


def test_none_is_never_decoded_but_weakens_its_edge():
    alphas = np.zeros((2, 8))
    alphas[:, 0] = 10  # none is by far the strongest everywhere
    alphas[0, 5] = 2
    alphas[1, 3] = 1
    assert decode_cell(alphas) == (((0, 'sep_conv_5x5'), (1, 'skip_connect')),)
    # More 'none' on edge 0 makes edge 1 the stronger one.
    alphas[0, 0] = 12
    assert decode_cell(alphas) == (((1, 'skip_connect'), (0, 'sep_conv_5x5')),)


def test_operations_stay_with_their_edges():
    """The stronger edge has the larger index: no swap of operations."""
    alphas = np.zeros((num_edges(2), 8))
    alphas[0, 4] = 1  # block 0, state 0
    alphas[1, 7] = 3  # block 0, state 1
    alphas[2, 5] = 2  # block 1, state 0
    alphas[4, 6] = 4  # block 1, state 2
    assert decode_cell(alphas) == (
        ((1, 'atrous_conv_5x5'), (0, 'sep_conv_3x3')),
        ((2, 'atrous_conv_3x3'), (0, 'sep_conv_5x5')),
    )


def test_ties_go_to_the_lower_index():
    architecture = decode(np.zeros((num_edges(3), 8)), np.zeros((5, 4, 3)))
    assert (
        architecture.cell == (((0, 'max_pool_3x3'), (1, 'max_pool_3x3')),) * 3
    )
    # At stride 4 only two transitions share the probability, so 4 it is.
    assert architecture.path == (4,) * 5


@pytest.mark.parametrize('seed', range(20))
def test_ties_between_paths_go_to_the_lower_level_from_the_end_on(seed):
    """Probabilities of 1, 1/2 and 0: products are exact, and ties many."""
    rng = np.random.RandomState(seed)
    mask = transition_mask(5)
    betas = np.full(mask.shape, -1e4)
    for source in zip(*mask.any(-1).nonzero()):
        open_ones = rng.permutation(mask[source].nonzero()[0])[:2]
        betas[source][open_ones] = 0
    probabilities = beta_probabilities(betas)
    paths = {}
    for levels in itertools.product(range(4), repeat=5):
        walk = list(enumerate(zip((0, *levels), levels)))
        if all(abs(b - a) <= 1 for _, (a, b) in walk):
            steps = [probabilities[i, a, b - a + 1] for i, (a, b) in walk]
            paths[levels] = np.prod(steps)
    most = max(paths.values())
    tied = [levels for levels, p in paths.items() if p == most]
    assert len(tied) > 1
    first = min(tied, key=lambda levels: levels[::-1])
    assert decode_path(betas) == tuple(RATES[level] for level in first)


def test_transitions_out_of_every_source_sum_to_one():
    betas = np.random.RandomState(0).randn(6, 4, 3)
    probabilities = beta_probabilities(betas)
    mask = transition_mask(6)
    assert (probabilities[~mask] == 0).all()
    assert (probabilities[mask] > 0).all()
    np.testing.assert_allclose(
        probabilities.sum(-1), mask.any(-1).astype(float), atol=1e-12
    )


def test_masked_betas_have_no_say():
    betas = np.random.RandomState(0).randn(6, 4, 3)
    loud = np.where(transition_mask(6), betas, 1e3)
    np.testing.assert_array_equal(
        beta_probabilities(betas), beta_probabilities(loud)
    )
    assert decode_path(betas) == decode_path(loud)


def test_the_path_is_global_not_greedy():
    betas = np.zeros((3, 4, 3))
    betas[0, 0, 1] = 1  # staying at 4 is the better first step ...
    betas[1, 1, 2] = betas[2, 2, 1] = 9  # ... but 8-16-16 is nearly certain
    assert decode_path(betas) == (8, 16, 16)


def test_entropies():
    uniform = np.zeros((20, 8)), np.zeros((12, 4, 3))
    assert alpha_entropy(uniform[0]) == pytest.approx(np.log(8))
    # 23 of 41 sources choose among 2, the others among 3: see the mask.
    counts = transition_mask(12).sum(-1)
    expected = np.log(counts[counts > 0]).mean()
    assert beta_entropy(uniform[1]) == pytest.approx(expected)
    sharp = [100 * np.random.RandomState(0).rand(*a.shape) for a in uniform]
    assert alpha_entropy(sharp[0]) < np.log(8) / 2
    assert beta_entropy(sharp[1]) < expected / 2


@pytest.mark.parametrize(
    'alphas',
    [
        np.full((20, 8), np.nan),
        np.zeros((20, 7)),
        np.zeros((8,)),
        np.zeros((0, 8)),
        np.zeros((21, 8)),
    ],
)
def test_alphas_that_are_none(alphas):
    with pytest.raises(ValueError):
        decode_cell(alphas)


@pytest.mark.parametrize(
    'betas',
    [
        np.full((12, 4, 3), np.inf),
        np.zeros((12, 3, 3)),
        np.zeros((0, 4, 3)),
    ],
)
def test_betas_that_are_none(betas):
    with pytest.raises(ValueError):
        decode_path(betas)
