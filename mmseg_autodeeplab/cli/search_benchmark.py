"""What measurements of a search say: rates, ratios, durations, what fits.

A combination of options is a dict of ``KEYS``. A row is one with a ``half``
and the numbers that come of what :func:`.benchmark.measure_search` has found.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter

from .measurement import spread

# Multiply-adds of each half, in those of a forward pass.
PASSES = dict(weights=3, arch=2)
# What of a combination the backbone of a config has, and where.
BACKBONE_KEYS = dict(layers='num_layers', form='form', with_cp='with_cp')
# What a combination is made of, in the order of the columns.
KEYS = ('crop', 'batch', *BACKBONE_KEYS)
MEMORY = ('peak', 'working')
# What is compared with what: a key, its two values, the second's name.
COMPARED = (
    ('form', 'fused', 'reference', 'reference'),
    ('with_cp', 'on', 'off', 'with_cp off'),
    ('half', 'arch', 'weights', 'weights'),
)
FIT_CROP, FIT_BATCH = 321, 2


def rows_of(
    case: dict, rounds: Sequence[dict], halves: list[str], multiply_adds: int
) -> list[dict]:
    """The rows of a combination, one per half and one of both.

    A row has ``error`` and no numbers where a round has failed. The
    ``multiply_adds`` are those of a forward pass, for one image.
    """
    parts = {half: [half] for half in halves}
    if len(halves) > 1:
        parts['iteration'] = halves
    errors = [found for found in rounds if 'error' in found]
    if errors:
        return [dict(case, half=name, **errors[0]) for name in parts]
    forward = multiply_adds * case['batch']
    return [
        dict(case, half=name, **_numbers(rounds, part, forward))
        for name, part in parts.items()
    ]


def _numbers(rounds, halves, multiply_adds):
    """What was measured of these halves together, in all rounds."""
    found = [[one[half] for half in halves] for one in rounds]
    samples = [
        sum(turn)
        for one in found
        for turn in zip(*(half['samples'] for half in one))
    ]
    row = spread(samples)
    for key in ('built', *MEMORY):
        row[key] = max(half[key] for one in found for half in one)
    row['multiply_adds'] = multiply_adds * sum(map(PASSES.get, halves))
    row['multiply_adds_per_second'] = row['multiply_adds'] / row['seconds']
    return row


def compare(rows: Sequence[dict]) -> list[dict]:
    """Ratios ``time``, ``peak`` and ``working`` to rows with one other key.

    They stand beside the combination, the half, and ``relative_to``, and are
    None where there is nothing to divide by.
    """
    keys = (*KEYS, 'half')
    key_of = itemgetter(*keys)
    found = {key_of(row): row for row in rows if 'error' not in row}
    ratios = []
    for row in found.values():
        for key, first, second, label in COMPARED:
            other = found.get(key_of({**row, key: second}))
            if row[key] == first and other:
                ratio = dict(zip(keys, key_of(row)), relative_to=label)
                ratio['time'] = row['seconds'] / other['seconds']
                for name in MEMORY:
                    base = other[name]
                    ratio[name] = row[name] / base if base else None
                ratios.append(ratio)
    return ratios


def project(rows: Sequence[dict], max_iters: int, begin: int) -> list[dict]:
    """Combinations, and in ``seconds`` how long a whole search would take.

    Of its ``max_iters`` iterations, those from ``begin`` on have both halves.
    """
    counts = dict(weights=max_iters, arch=max_iters - begin, iteration=0)
    totals = Counter()
    for row in rows:
        if 'error' not in row:
            seconds = counts[row['half']] * row['seconds']
            totals[itemgetter(*KEYS)(row)] += seconds
    return [dict(zip(KEYS, case), seconds=s) for case, s in totals.items()]


def largest(fits: Callable[[int], bool]) -> int:
    """The largest n from 1 on for which ``fits(n)``; 0 if there is none.

    By doubling and bisection: ``fits`` must not become true again.
    """
    bad = 1
    while fits(bad):
        bad *= 2
    good = bad // 2
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def fit(cases: list, limits: list, memory: Callable) -> list[dict]:
    """The largest ``batch`` and ``crop`` of each net within each ``limit``.

    Args:
        cases: Combinations; their crops and batches are not used.
        limits: In 2^30 bytes.
        memory: Of a combination, in bytes.
    """

    @functools.cache
    def needed(net, crop, batch):
        return memory(dict(zip(KEYS, (crop, batch, *net))))

    def row(net, limit):
        def fits(crop, batch):
            return needed(net, crop, batch) <= limit * 2**30

        steps = largest(lambda n: fits(32 * n + 1, FIT_BATCH))
        return dict(
            zip(BACKBONE_KEYS, net),
            limit=limit,
            batch=largest(lambda n: fits(FIT_CROP, n)),
            crop=32 * steps + 1 if steps else 0,
        )

    nets = dict.fromkeys(map(itemgetter(*BACKBONE_KEYS), cases))
    return list(itertools.starmap(row, itertools.product(nets, limits)))
