import os

import pytest
import torch

from mmseg_autodeeplab.cli import benchmark, measurement, tables


def test_peak_memory_sees_what_is_freed_again():
    size = 64 * measurement.MIB
    memory = measurement.PeakMemory('cpu')

    def function():
        # Memory that is never written is not resident.
        torch.ones(size, dtype=torch.uint8)

    assert memory.of(function) == pytest.approx(size, rel=0.1)
    assert memory.of(lambda: None) < 0.1 * size


def test_peak_memory_is_above_what_was_there():
    size = 64 * measurement.MIB
    held = torch.ones(size, dtype=torch.uint8)
    memory = measurement.PeakMemory('cpu')
    assert memory.base > size
    assert memory.of(lambda: held.max()) < 0.1 * size


def test_what_stays_between_calls():
    size = 64 * measurement.MIB
    memory = measurement.PeakMemory('cpu')
    held = []
    memory.of(lambda: held.append(torch.ones(size, dtype=torch.uint8)))
    assert memory.now() == pytest.approx(size, rel=0.1)
    held.clear()
    assert memory.now() < 0.1 * size


def test_out_of_memory_is_a_result():

    def function():
        torch.empty(2**60, dtype=torch.uint8)

    assert measurement.guarded(function, (), {}) == {'error': 'out of memory'}


def test_other_errors_stay_errors():

    def function():
        raise RuntimeError('of another kind')

    with pytest.raises(RuntimeError, match='of another kind'):
        measurement.guarded(function, (), {})


@pytest.mark.run
def test_a_process_that_dies_is_a_result():
    assert measurement.isolated(os._exit, 1) == {'error': 'killed'}


def test_spread():
    assert tables.spread([3, 1, 2]) == dict(
        seconds=2, seconds_min=1, seconds_max=3
    )


def test_table_is_markdown_and_aligned():
    assert tables.table(
        ['name', 'ms'], [['a', 1.5], ['longer', 12], ['none', None]]
    ).splitlines() == [
        '| name   |  ms |',
        '| ------ | --: |',
        '| a      | 1.5 |',
        '| longer |  12 |',
        '| none   |     |',
    ]


def test_random_batch_is_that_of_a_data_loader():
    data = benchmark.random_batch(2, 33, 6)
    assert [tuple(image.shape) for image in data['inputs']] == [
        (3, 33, 33)
    ] * 2
    for sample in data['data_samples']:
        labels = sample.gt_sem_seg.data
        assert labels.shape == (1, 33, 33)
        assert set(labels.unique().tolist()) == set(range(6))
