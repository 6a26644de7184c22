"""The check of a GPU, in small on the CPU."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'checks' / 'gpu.py'


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location('gpu_tool', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.run
def test_everything_in_small(tmp_path, run_tool, capsys):
    file = tmp_path / 'found.json'
    options = ('--device', 'cpu', '--seconds', '600', '--out', str(file))
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', TOOL, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [file]
    steps = json.loads(file.read_text())['steps']
    assert list(steps) == (
        'correctness time profile search inference fit'.split()
    )
    for rows in steps.values():
        assert rows
        for row in rows:
            assert not {'error', 'skipped'} & row.keys(), row

    compared = [row['within'] for row in steps['correctness'][:2]]
    assert compared == [True, True]
    roundings = [row['weights'] for row in steps['correctness']]
    assert any(1e-8 < distance < 1e-4 for distance in roundings)
    cases = [row['case'] for row in steps['time']]
    assert cases == ['fused', 'reference', 'fused, with_cp']
    for row in steps['time']:
        total = 29760 * row['weights ms'] + 14880 * row['arch ms']
        assert row['hours'] == pytest.approx(total / 3.6e6)
    whole, *resumed = steps['search']
    assert whole['iterations'] == 8 and len(whole['decoded']['path']) == 3
    for row in resumed:
        assert row['iterations'] == 2
        assert row['weights'] == row['architecture'] == row['statistics'] == 0

    run_tool('checks/gpu', '--table', file)
    table = capsys.readouterr().out
    assert done.stdout.endswith(table) and '## fit' in table


@pytest.fixture
def taken(tool, monkeypatch, tmp_path):
    """Take steps of tasks; a function of the rows that are found."""

    def take(end=60, found=None, **tasks):
        def step(args, found):
            for name, task in tasks.items():
                yield dict(name=name), lambda args, task=task: task()

        monkeypatch.setattr(tool, 'STEPS', dict(only=(step, 0.5)))
        args = argparse.Namespace(
            device='cpu', steps=['only'], out=str(tmp_path / 'found.json')
        )
        found = found or dict(environment={}, steps={})
        tool.run(args, found, time.perf_counter() + end)
        written = json.loads((tmp_path / 'found.json').read_text())
        assert written == found
        return found

    return take


def fail():
    raise KeyError('gone')


def test_what_fails_is_noted_and_the_others_go_on(taken):
    found = taken(first=fail, second=lambda: dict(number=1))
    first, second = found['steps']['only']
    assert (
        first['error'] == "KeyError: 'gone'" and 'fail' in first['traceback']
    )
    assert second == dict(name='second', number=1)


def test_only_what_is_missing_is_done_again(taken):
    found = taken(first=lambda: dict(number=1))
    found = taken(found=found, first=fail, second=lambda: dict(number=2))
    numbers = [row['number'] for row in found['steps']['only']]
    assert numbers == [1, 2]


def test_nothing_begins_when_the_time_is_over(taken):
    (row,) = taken(end=-1, first=fail)['steps']['only']
    assert row == dict(name='first', skipped='no time was left')


def test_a_crash_leaves_its_name(taken, tmp_path):
    def crash():
        raise SystemExit

    with pytest.raises(SystemExit):
        taken(first=crash)
    (row,) = json.loads((tmp_path / 'found.json').read_text())['steps']['only']
    assert row == dict(name='first', error='the process ended')


def test_a_lost_device_is_left_for_a_new_process(tool, taken, monkeypatch):
    commands = []
    monkeypatch.setattr(os, 'execv', lambda *args: commands.append(args))
    taken(first=fail)
    assert commands == []
    monkeypatch.setattr(tool, 'is_lost', lambda device: True)
    taken(first=fail)
    ((program, command),) = commands
    assert program == command[0] == sys.executable
    assert command[1:-1] == sys.argv
    option, seconds = command[-1].split('=')
    assert option == '--seconds' and 50 < float(seconds) < 60


def test_a_profiler_is_left_once(tool, monkeypatch, tmp_path):
    """It slows down what comes after it in the process."""

    def profiling(args, found):
        yield dict(name='profile'), lambda args: dict(number=1)

    def other(args, found):
        yield dict(name='other'), lambda args: dict(number=2)

    restarts = []
    monkeypatch.setattr(os, 'execv', lambda *args: restarts.append(args))
    monkeypatch.setattr(tool, 'clean', lambda device: None)
    monkeypatch.setattr(tool, 'profiling', profiling)
    steps = dict(profile=(profiling, 0.5), other=(other, 1))
    monkeypatch.setattr(tool, 'STEPS', steps)

    def run(end, found, *names):
        args = argparse.Namespace(device='cuda', steps=names)
        args.out = str(tmp_path / 'found.json')
        restarts.clear()
        tool.run(args, found, time.perf_counter() + end)
        return len(restarts)

    found = dict(steps={})
    assert run(60, found, 'profile', 'other') == 1
    assert run(60, found, 'profile', 'other') == 0
    assert run(60, dict(steps={}), 'profile') == 0
    assert run(-1, dict(steps={}), 'profile', 'other') == 0


def test_distances(tool):
    expected = {
        'output.0': torch.tensor([1.0, -4]),
        'layers.weight': torch.tensor([2.0, 0]),
        'alphas': torch.zeros(2),
    }
    found = {k: v.clone() for k, v in expected.items()}
    found['output.0'][0] += 0.01
    found['layers.weight'][1] += 0.01
    row = tool.distances(found, expected, 4e-3)
    assert row['outputs'] == pytest.approx(0.0025)
    assert row['weights'] == pytest.approx(0.005)
    assert row['architecture'] == 0
    assert row['worst'] == 'layers.weight' and not row['within']
    assert tool.distances(found, expected, 6e-3)['within']
    for wrong in (float('nan'), 1e-9):  # Relative to nothing.
        found['alphas'][0] = wrong
        assert not tool.distances(found, expected, 6e-3)['within']


def test_what_fits_is_tried(tool, monkeypatch):
    """The prediction is by pixels; a large batch takes a bit more."""
    tried = []

    def memory(device, settings, crop, batch):
        tried.append((crop, batch))
        return (0.1 + (batch * crop**2 / 1e6) ** 1.02) * tool.GIB

    monkeypatch.setattr(tool, 'memory', memory)
    args = argparse.Namespace(device='cpu', left=60)
    predict = tool.prediction('cpu', {})
    found = tool.fit(args, {}, predict, 4.0)
    batch, crop = found['batch at crop 321'], found['crop at batch 2']
    assert memory('cpu', {}, 321, batch) <= 4 * tool.GIB
    assert memory('cpu', {}, 321, batch + 1) > 4 * tool.GIB
    assert memory('cpu', {}, crop, 2) <= 4 * tool.GIB
    assert memory('cpu', {}, crop + 32, 2) > 4 * tool.GIB
    assert crop % 32 == 1 and len(tried) < 15
    args.left = 0
    with pytest.raises(TimeoutError, match='batch'):
        tool.fit(args, {}, lambda case: 0.1 * predict(case), 4.0)


def test_a_step_that_does_not_exist(failure, tmp_path):
    error = failure('checks/gpu', '--device', 'cpu', '--steps', 'time,tide')
    assert "not 'tide'" in error


def test_seconds_of_iterations(tool):
    """The first three of a kind are left out where there are more."""
    clock = tool.Clock(60)
    clock.ends = [0, 9, 10, 11, 12, 14, 20, 30, 31, 32, 33]
    assert clock.seconds(0, 6) == pytest.approx((14 - 11) / 2)
    assert clock.seconds(6) == pytest.approx((33 - 32) / 1)
