"""Processes that are run, watched and measured."""

import os
import sys
import threading

import pytest

from mmseg_autodeeplab.search.processes import (
    ProcessFailed,
    environments,
    processor_time,
    run,
    side_by_side,
)

BUSY = """
import multiprocessing, time
def work():
    while time.process_time() < 0.4: pass
work()
child = multiprocessing.get_context('fork').Process(target=work)
child.start(); child.join()
"""


def python(script):
    return [sys.executable, '-c', script]


@pytest.mark.run
def test_time_is_that_of_processors_in_all_runs(tmp_path):
    folder = str(tmp_path / 'new')
    assert processor_time(folder) == 0
    run(python('import time; time.sleep(1)'), folder)
    assert 0 < (slept := processor_time(folder)) < 0.7
    # With a process of its own, as workers of a loader are.
    run(python(BUSY), folder)
    assert slept + 0.75 < processor_time(folder) < slept + 5
    with pytest.raises(ProcessFailed, match='^exit status 3$'):
        run(python('raise SystemExit(3)'), folder)
    assert processor_time(folder) > slept + 0.75


@pytest.mark.run
def test_what_ends_a_process_is_counted_too(tmp_path):
    class Enough(Exception):
        pass

    def watch():
        raise Enough

    with pytest.raises(Enough):
        run(python('while True: pass'), str(tmp_path), watch)
    assert processor_time(str(tmp_path)) > 0.1


@pytest.mark.run
def test_what_ends_by_itself_while_it_is_watched(tmp_path):
    """It is a child to wait for, whoever else asks for it."""

    class Enough(Exception):
        pass

    script = 'import os; print(os.getpid(), flush=True); open("go").read()'
    os.mkfifo(tmp_path / 'go')

    def watch():
        (tmp_path / 'go').write_text('')
        pid = int((tmp_path / 'output.txt').read_text())
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        raise Enough

    script = f'import os; os.chdir({str(tmp_path)!r}); {script}'
    with pytest.raises(Enough):
        run(python(script), str(tmp_path), watch)
    assert processor_time(str(tmp_path)) > 0


@pytest.mark.run
def test_gpus_are_dealt_to_what_runs_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,7')
    barrier = threading.Barrier(2, timeout=60)
    show = 'import os; print(os.environ["CUDA_VISIBLE_DEVICES"])'

    def work(name):
        barrier.wait()  # So that both threads are there.
        run(python(show), str(tmp_path / name))
        return (tmp_path / name / 'output.txt').read_text()

    with side_by_side(2) as pool:
        assert sorted(pool.map(work, 'abcd')) == ['4\n', '4\n', '7\n', '7\n']


@pytest.mark.parametrize(
    'visible, found, expected',
    [
        ('4,7', 9, ['4', '7', '4']),
        ('', 2, ['0', '1', '0']),
        (None, 2, ['0', '1', '0']),
        ('', 0, ['', '', '']),
        (None, 0, [None, None, None]),
    ],
)
def test_which_gpus_are_dealt(monkeypatch, visible, found, expected):
    monkeypatch.setattr('torch.cuda.device_count', lambda: found)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if visible is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    dealt = [one.get('CUDA_VISIBLE_DEVICES') for one in environments(3)]
    assert dealt == expected


def test_a_run_without_an_end_is_not_known(tmp_path):
    file = tmp_path / 'processor_time.jsonl'
    one = '{"begun": 1.0}\n{"seconds": 2.5}\n'
    file.write_text(one + one)
    assert processor_time(str(tmp_path)) == 5
    file.write_text(one + '{"begun": 2.0}\n' + one)
    assert processor_time(str(tmp_path)) is None
    file.write_text(one + '{"begun": 2.0}\n{"sec')
    assert processor_time(str(tmp_path)) is None
