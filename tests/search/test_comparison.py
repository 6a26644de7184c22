"""The statistics of a comparison against direct computations."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from mmseg_autodeeplab.search.comparison import (
    best_of,
    bootstrap_interval,
    equal_cost,
    improvement,
    kendall_tau,
    share_beaten,
    welch_interval,
)


def tau_by_counting(pairs):
    """Concordant, discordant and tied pairs, one by one."""
    counts = dict.fromkeys(('concordant', 'discordant', 'only_x', 'only_y'), 0)
    for (a, b), (c, d) in itertools.combinations(pairs, 2):
        if a == c and b == d:
            continue
        if a == c:
            counts['only_x'] += 1
        elif b == d:
            counts['only_y'] += 1
        else:
            same = (a < c) == (b < d)
            counts['concordant' if same else 'discordant'] += 1
    c, d, x, y = counts.values()
    return (c - d) / math.sqrt((c + d + x) * (c + d + y))


@pytest.mark.parametrize('values', [100, 4, 2], ids='few some many'.split())
def test_tau_b_is_that_of_counted_pairs(values):
    rng = np.random.default_rng(values)
    for size in (3, 8, 21):
        pairs = rng.integers(values, size=(size, 2))
        pairs[:2] = [[0, 1], [1, 0]]  # Never all the same.
        assert kendall_tau(pairs) == pytest.approx(tau_by_counting(pairs))


def test_tau_of_orders():
    up = np.arange(5.0)
    assert kendall_tau(np.stack([up, up**3], 1)) == pytest.approx(1)
    assert kendall_tau(np.stack([up, -up], 1)) == pytest.approx(-1)
    assert math.isnan(kendall_tau(np.stack([up, up * 0], 1)))


def test_the_best_of_candidates_is_that_of_all_subsets():
    rng = np.random.default_rng(0)
    for ties in (False, True):
        val = rng.integers(4, size=7) if ties else rng.permutation(7)
        random = np.stack([val, rng.normal(size=7)], 1)
        for n in range(1, 8):
            found = []
            for rows in itertools.combinations(random, n):
                best = max(v for v, _ in rows)
                found.append(np.mean([t for v, t in rows if v == best]))
            assert best_of(random, n) == pytest.approx(np.mean(found))


def test_parts_of_a_candidate_are_interpolated():
    random = np.array([[1, 10], [2, 30], [3, 20.0]])
    assert best_of(random, 1) == pytest.approx(20)
    # Of {1, 2}, {1, 3} and {2, 3}: 30, 20 and 20.
    two = 70 / 3
    assert best_of(random, 2) == pytest.approx(two)
    assert best_of(random, 1.25) == pytest.approx(20 + (two - 20) / 4)
    assert equal_cost([25, 27], random, 2) == pytest.approx(26 - two)


def test_what_is_better_is_an_improvement():
    assert improvement([3.0, 5.0], [1.0, 2.0]) == pytest.approx(2.5)
    # 4 is no more than 4: 2 of 3, and none.
    assert share_beaten([4, 1], [1, 2, 4]) == pytest.approx(
        float(Fraction(2, 6))
    )


def test_the_interval_resamples_each_group():
    """All means of pairs out of two values each, by their probabilities."""
    low, high = bootstrap_interval(
        improvement, [0.0, 8.0], [0.0, 2.0], draws=4000
    )
    # -2 and 8 each have 1/16: above 2.5 %, so that they are its ends.
    assert (low, high) == (-2, 8)
    # At 80 %, a tail of 10 %: -1 with 2/16 more, and 7 with 2/16.
    assert bootstrap_interval(
        improvement, [0.0, 8.0], [0.0, 2.0], draws=4000, level=0.8
    ) == (-1, 7)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        searched, random = rng.normal(1, 1, 20), rng.normal(0, 1, 20)
        low, high = bootstrap_interval(
            improvement, searched, random, draws=200, seed=seed
        )
        covered += low < 1 < high
    # 3.5 standard deviations of a binomial around 93 of 100, which a
    # percentile interval of 20 has.
    assert 84 <= covered <= 99


def test_the_interval_of_three_searches_covers_the_truth():
    """Where that of the bootstrap is too narrow, by far."""
    rng = np.random.default_rng(0)
    covered = np.zeros(2)
    for seed in range(300):
        # The searched ones alone vary.
        groups = rng.normal(1, 1, 3), rng.normal(0, 0.01, 12)
        intervals = (
            welch_interval(*groups),
            bootstrap_interval(improvement, *groups, draws=200, seed=seed),
        )
        covered += [low < 1 < high for low, high in intervals]
    assert covered[0] / 300 == pytest.approx(0.95, abs=0.04)
    assert covered[1] / 300 < 0.85


def test_the_interval_by_hand():
    # The variances of the means, 1 and 1 / 3: 96 / 29 degrees of freedom.
    searched, random = [1, 4, 4], [0, 2, 2, 0]
    half = 3.0201 * math.sqrt(1 + 1 / 3)
    low, high = welch_interval(searched, random)
    assert (low, high) == pytest.approx((2 - half, 2 + half), abs=2e-3)
    assert all(map(math.isnan, welch_interval([1], random)))


def test_the_interval_is_a_function_of_the_seed():
    data = np.random.default_rng(1).normal(size=(12, 2))
    first = bootstrap_interval(kendall_tau, data)
    assert first == bootstrap_interval(kendall_tau, data)
    assert first != bootstrap_interval(kendall_tau, data, seed=1)
    assert first[0] <= kendall_tau(data) <= first[1]


def test_pairs_stay_together():
    """Resampled apart, validation and test would no longer be of one."""
    x = np.arange(9.0)
    interval = bootstrap_interval(kendall_tau, np.stack([x, x], 1))
    assert interval == pytest.approx((1, 1))
    same = np.ones((4, 2))
    assert all(map(math.isnan, bootstrap_interval(kendall_tau, same)))
