"""What measurements of a search say: rates, ratios, durations, what fits.

A combination of options is a dict of ``KEYS``. A row is one with a ``half``
and the numbers that come of what :func:`.benchmark.measure_search` has found.
"""

import functools
from collections.abc import Callable, Sequence

from .tables import spread

# Multiply-adds of each half, in those of a forward pass.
PASSES = dict(weights=3, arch=2, iteration=5)
# What of a combination the backbone of a config has, and where.
BACKBONE_KEYS = dict(layers='num_layers', form='form', with_cp='with_cp')
# What a combination is made of, in the order of the columns.
KEYS = ('crop', 'batch', *BACKBONE_KEYS)
MEMORY = ('peak', 'working')
FIT_CROP, FIT_BATCH = 321, 2


def rows_of(
    case: dict, rounds: Sequence[dict], halves: list[str], multiply_adds: int
) -> list[dict]:
    """The rows of a combination, one per half and one of both.

    Args:
        case (dict): The combination.
        rounds (Sequence[dict]): What each round has measured.
        halves (list[str]): What was to be measured.
        multiply_adds (int): Of a forward pass, for one image.

    Returns:
        list[dict]: Rows; one that has ``error`` has no numbers.
    """
    failed = [found for found in rounds if 'error' in found]
    rows = []
    for half in halves + ['iteration'] * (len(halves) > 1):
        row = dict(case, half=half)
        rows.append(row)
        if failed:
            row.update(failed[0])
            continue
        parts = halves if half == 'iteration' else [half]
        samples = [
            sum(times)
            for found in rounds
            for times in zip(*(found['seconds'][part] for part in parts))
        ]
        row.update(
            **spread(samples),
            samples=samples,
            multiply_adds=multiply_adds * case['batch'] * PASSES[half],
            peak=max(
                found['peak'][part] for found in rounds for part in parts
            ),
            working=max(
                max(found['peak'][part] - found['state'], 0)
                for found in rounds
                for part in parts
            ),
            built=max(found['built'] for found in rounds),
        )
        row['multiply_adds_per_second'] = row['multiply_adds'] / row['seconds']
    return rows


def compare(rows: Sequence[dict]) -> list[dict]:
    """Ratios between rows that differ in one thing.

    Args:
        rows (Sequence[dict]): Rows of all combinations.

    Returns:
        list[dict]: The combination, ``relative_to``, and the ratios ``time``,
        ``peak`` and ``working`` (None where there is nothing to divide by).
    """
    keys = (*KEYS, 'half')
    found = {
        tuple(row[key] for key in keys): row
        for row in rows
        if 'error' not in row
    }
    ratios = []
    for row in found.values():
        for key, value, label in (
            ('form', 'reference', 'reference'),
            ('with_cp', 'off', 'with_cp off'),
            ('half', 'weights', 'weights'),
        ):
            other = found.get(tuple({**row, key: value}[k] for k in keys))
            whole = key == 'half' and row['half'] == 'iteration'
            if row[key] == value or other is None or whole:
                continue
            ratios.append(
                dict(
                    {k: row[k] for k in keys},
                    relative_to=label,
                    time=row['seconds'] / other['seconds'],
                    **{
                        name: row[name] / other[name] if other[name] else None
                        for name in MEMORY
                    },
                )
            )
    return ratios


def project(rows: Sequence[dict], max_iters: int, begin: int) -> list[dict]:
    """Duration of a whole search for each combination.

    Args:
        rows (Sequence[dict]): Rows of all combinations.
        max_iters (int): Iterations of the search.
        begin (int): The first of them with an architecture half.

    Returns:
        list[dict]: The combination, and ``seconds``.
    """
    halves = {}
    for row in rows:
        if 'error' not in row:
            case = tuple(row[key] for key in KEYS)
            halves.setdefault(case, {})[row['half']] = row['seconds']
    return [
        dict(
            zip(KEYS, case),
            seconds=max_iters * found['weights']
            + (max_iters - begin) * found['arch'],
        )
        for case, found in halves.items()
    ]


def largest(fits: Callable[[int], bool]) -> int:
    """The largest n from 1 on for which ``fits(n)``; 0 if there is none.

    By doubling and bisection: ``fits`` must not become true again.
    """
    if not fits(1):
        return 0
    good, bad = 1, 2
    while fits(bad):
        good, bad = bad, 2 * bad
    while bad - good > 1:
        middle = (good + bad) // 2
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good


def fit(
    cases: Sequence[dict],
    limits: Sequence[float],
    memory: Callable[[dict], float],
) -> list[dict]:
    """The largest batch and crop within each limit of memory.

    Args:
        cases (Sequence[dict]): Combinations; their crops and batches are not
            used.
        limits (Sequence[float]): In 2^30 bytes.
        memory (Callable): Of a combination, in bytes.

    Returns:
        list[dict]: ``layers``, ``form``, ``with_cp``, ``limit``, ``batch``
        and ``crop``; 0 where nothing fits.
    """

    @functools.cache
    def needed(net, crop, batch):
        return memory(dict(zip(KEYS, (crop, batch, *net))))

    rows = []
    for net in dict.fromkeys(
        tuple(case[key] for key in BACKBONE_KEYS) for case in cases
    ):
        for limit in limits:
            room = limit * 2**30

            def batch_fits(n, net=net, room=room):
                return needed(net, FIT_CROP, n) <= room

            def crop_fits(n, net=net, room=room):
                return needed(net, 32 * n + 1, FIT_BATCH) <= room

            steps = largest(crop_fits)
            rows.append(
                dict(
                    zip(BACKBONE_KEYS, net),
                    limit=limit,
                    batch=largest(batch_fits),
                    crop=32 * steps + 1 if steps else 0,
                )
            )
    return rows
