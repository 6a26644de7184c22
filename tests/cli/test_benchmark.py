import os

import pytest
import torch

from mmseg_autodeeplab.cli import benchmark, measurement

SIZE = 64 * measurement.MIB


def ones():
    # Memory that is never written is not resident.
    return torch.ones(SIZE, dtype=torch.uint8)


def measure(function):
    found = measurement.measure(dict(f=function), 'cpu', iters=0, warmup=0)
    return found['f']['peak']


def test_peak_memory_sees_what_is_freed_again():
    assert measure(lambda: ones().max()) == (pytest.approx(SIZE, rel=0.1))
    assert measure(lambda: None) < 0.1 * SIZE


def test_peak_memory_is_above_what_was_there():
    held = ones()
    assert measurement.settled_memory('cpu') > SIZE
    assert measure(lambda: held.max()) < 0.1 * SIZE


def test_what_stays_between_calls():
    held = []

    def step():
        held[:] = [ones()]

    found = measurement.measure(dict(f=step), 'cpu', iters=2, warmup=1)['f']
    # The new one is there before the old one goes.
    assert found['peak'] == pytest.approx(2 * SIZE, rel=0.1)
    assert found['working'] == pytest.approx(SIZE, rel=0.1)
    assert len(found['samples']) == 2 and min(found['samples']) > 0


def test_turns_that_take_too_long_are_left_out():
    """But for the warm-up and one; the last call is for the memory."""
    calls = []

    def count(seconds):
        calls.clear()
        found = measurement.measure(
            dict(f=lambda: calls.append(1)),
            'cpu',
            iters=5,
            warmup=2,
            seconds=seconds,
        )
        return len(found['f']['samples']), len(calls)

    assert count(0) == (1, 4)
    assert count(60) == (5, 8)


def test_what_graphs_keep_is_in_use(monkeypatch):
    """To the allocator of a GPU it is free between replays."""
    stats = {'allocated_bytes.all.current': 500, 'allocated_bytes.all.peak': 9}
    segments = [
        dict(segment_pool_id=pool, total_size=total, allocated_size=allocated)
        for pool, total, allocated in (
            ((0, 0), 10**6, 400),
            ((0, 1), 3000, 100),
            ((0, 1), 2000, 0),
        )
    ]
    monkeypatch.setattr(torch.cuda, 'memory_stats', lambda: stats)
    monkeypatch.setattr(torch.cuda, 'memory_snapshot', lambda: segments)
    monkeypatch.setattr(
        torch.cuda, 'reset_peak_memory_stats', lambda: stats.popitem()
    )
    assert measurement.peak_memory('cuda') == 9 + 2900 + 2000
    assert measurement.settled_memory('cuda') == 500 + 2900 + 2000
    assert [*stats] == ['allocated_bytes.all.current']


def allocate():
    torch.empty(2**60, dtype=torch.uint8)


def fail():
    raise RuntimeError('of another kind')


@pytest.mark.run
def test_out_of_memory_is_a_result():
    assert measurement.isolated(allocate) == {'error': 'out of memory'}


@pytest.mark.run
def test_other_errors_stay_errors():
    with pytest.raises(RuntimeError, match='of another kind'):
        measurement.isolated(fail)


@pytest.mark.run
def test_a_process_that_dies_is_a_result():
    assert measurement.isolated(os._exit, 1) == {'error': 'killed'}


def test_spread():
    assert measurement.spread([3, 1, 2]) == dict(
        seconds=2, seconds_min=1, seconds_max=3, samples=[3, 1, 2]
    )


def test_table_is_markdown_and_aligned():
    lines = measurement.table(
        ['name', 'ms'], [['a', 1.5], ['longer', 12], ['none', None]]
    ).splitlines()
    assert len({len(line) for line in lines}) == 1
    header, rule, *rows = (
        [cell.strip() for cell in line.strip('|').split('|')] for line in lines
    )
    assert header == ['name', 'ms']
    assert all(set(cell) <= {'-', ':'} for cell in rule)
    assert rows == [['a', '1.5'], ['longer', '12'], ['none', '']]


@pytest.mark.parametrize('channels', [3, 4])
def test_random_batch_is_that_of_a_data_loader(channels):
    data = benchmark.random_batch(2, 33, 6, channels)
    assert [tuple(image.shape) for image in data['inputs']] == [
        (channels, 33, 33)
    ] * 2
    for sample in data['data_samples']:
        labels = sample.gt_sem_seg.data
        assert labels.shape == (1, 33, 33)
        assert set(labels.unique().tolist()) == set(range(6))
