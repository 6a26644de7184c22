"""Statistics of searched networks against random ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

import numpy as np
from scipy import stats

LEVEL = 0.95
DRAWS = 2000


def bootstrap_interval(
    statistic: Callable[..., float],
    *samples: Sequence,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile interval of a statistic of independent samples.

    Each sample is resampled along its first axis, with replacement (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, Sec. 13.3). Draws in
    which the statistic is nan do not count; it is nan where all are.
    """
    rng = np.random.default_rng(seed)
    samples = [np.asarray(sample, dtype=float) for sample in samples]
    found = np.array(
        [
            statistic(*(s[rng.integers(len(s), size=len(s))] for s in samples))
            for _ in range(draws)
        ]
    )
    found = found[~np.isnan(found)]
    if not len(found):
        return math.nan, math.nan
    tail = (1 - level) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


def improvement(searched: Sequence, random: Sequence) -> float:
    """The mean of the searched networks less that of the random ones."""
    return float(np.mean(searched) - np.mean(random))


def welch_interval(
    searched: Sequence, random: Sequence, level: float = LEVEL
) -> tuple[float, float]:
    """The interval of the improvement by Welch's t (Biometrika, 1947).

    Means of few networks vary more than the bootstrap shows, which cannot see
    beyond the values that are there. It is nan where a group has one.
    """
    if min(len(searched), len(random)) < 2:
        return math.nan, math.nan
    found = stats.ttest_ind(searched, random, equal_var=False)
    low, high = found.confidence_interval(level)
    return float(low), float(high)


def share_beaten(searched: Sequence, random: Sequence) -> float:
    """The share of random networks below a searched one, the mean over these.

    One that is equal is not beaten.
    """
    return float(np.mean(np.asarray(searched)[:, None] > np.asarray(random)))


def best_of(random: np.ndarray, candidates: float) -> float:
    """The expected test value of the best by validation among candidates.

    They are drawn from the random networks without replacement, each set as
    likely as another: of M networks sorted by validation, the one with i below
    it is the best of n with the probability C(i, n - 1) / C(M, n). Of those
    with equal validation values, each is as likely to be chosen.

    Args:
        random (np.ndarray): Validation and test values, (M, 2).
        candidates (float): Their number n, 1 to M. Between two whole numbers
            it is interpolated.
    """
    whole = math.floor(candidates)
    if whole < candidates:
        part = candidates - whole
        below, above = best_of(random, whole), best_of(random, whole + 1)
        return (1 - part) * below + part * above
    val, test = np.asarray(random, dtype=float).T
    test = np.array([test[val == value].mean() for value in val])
    ways = [math.comb(i, whole - 1) for i in range(len(val))]
    return float(np.average(test[np.argsort(val)], weights=ways))


def equal_cost(
    searched: Sequence, random: np.ndarray, candidates: float
) -> float:
    """The mean test value of the searched less :func:`best_of` the random."""
    return float(np.mean(searched)) - best_of(random, candidates)


def kendall_tau(pairs: np.ndarray) -> float:
    """Kendall's tau-b of pairs of values, (n, 2).

    It is nan where all values on one side are the same.
    """
    return float(stats.kendalltau(*np.asarray(pairs, dtype=float).T).statistic)


def compare(
    searched: np.ndarray,
    random: np.ndarray,
    candidates: Optional[float] = None,
    losses: Optional[Mapping[str, Sequence]] = None,
) -> dict:
    """All statistics of a comparison, with their intervals.

    Args:
        searched (np.ndarray): Validation and test values, (N, 2), of searched
            networks.
        random (np.ndarray): Those of random ones, (M, 2).
        candidates (float, optional): How many random networks are trained for
            the cost of a searched one.
        losses (Mapping, optional): Of the random networks, (M,), in one
            supernet or another, by its name.

    Returns:
        dict: ``val`` and ``test``; ``equal_cost``, None where its cost is not
        known; ``kendall_tau`` of falling losses and rising values.
    """
    parts = dict(val=0, test=1)
    found = {}
    for part, column in parts.items():
        groups = searched[:, column], random[:, column]
        found[part] = dict(
            searched=groups[0].mean(),
            random=groups[1].mean(),
            improvement=improvement(*groups),
            interval=bootstrap_interval(improvement, *groups),
            welch_interval=welch_interval(*groups),
            share_beaten=share_beaten(*groups),
        )
    found['equal_cost'] = None
    if candidates is not None:
        tried = min(candidates, len(random))

        def difference(searched, random):
            return equal_cost(searched, random, tried)

        groups = searched[:, 1], random
        found['equal_cost'] = dict(
            candidates=candidates,
            tried=tried,
            searched=groups[0].mean(),
            random=best_of(random, tried),
            improvement=difference(*groups),
            interval=bootstrap_interval(difference, *groups),
        )
    found['kendall_tau'] = {}
    for name, values in (losses or {}).items():
        found['kendall_tau'][name] = {}
        for part, column in parts.items():
            pairs = np.stack([-np.asarray(values), random[:, column]], 1)
            found['kendall_tau'][name][part] = dict(
                tau=kendall_tau(pairs),
                interval=bootstrap_interval(kendall_tau, pairs),
            )
    return found


def compare_studies(studies: Mapping[str, np.ndarray], last: int) -> dict:
    """Compare black-box searches by the rewards of their trials.

    Args:
        studies (Mapping): Indices of trials and rewards, (n, 2), in this
            order, by the names of the studies.
        last (int): Trials at the end of each study, by which they are
            compared with the last study.

    Returns:
        dict: By name, ``trials``, ``mean`` and ``best`` of all, ``last`` is
        the mean of the last ones, ``improvement`` that above the last study,
        with its ``interval``; and ``rewards`` as given.
    """
    *_, base = studies.values()
    found = {}
    for name, points in studies.items():
        rewards = points[:, 1]
        groups = rewards[-last:], base[-last:, 1]
        found[name] = dict(
            trials=len(points),
            mean=rewards.mean(),
            best=rewards.max(),
            last=groups[0].mean(),
            improvement=improvement(*groups),
            interval=bootstrap_interval(improvement, *groups),
            rewards=[[int(index), reward] for index, reward in points],
        )
    return found
