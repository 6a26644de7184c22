"""A training in a process of its own, by scripts in place of the tool."""

import fcntl
import os
import subprocess
import sys

import pytest
import tiny_config
from mmengine.config import Config

from mmseg_autodeeplab.errors import Occupied, Unavailable, UserError
from mmseg_autodeeplab.search.blackbox.proxy import TrialFailed, train

# What MMEngine logs.
LOG = """
os.makedirs('{0}/vis_data', exist_ok=True)
with open('{0}/vis_data/scalars.json', 'a') as f:
    for line in {1}:
        f.write(json.dumps(line) + '\\n')
"""
FIRST = LOG.format(
    '1', [dict(loss=1.0, step=2, iter=2), dict(mIoU=1.0, time=9, step=2)]
)
SECOND = LOG.format('2', [dict(mIoU=2.0, step=2), dict(mIoU=3.0, step=4)])
PID = "open('pid', 'w').write(str(os.getpid()))\n"
FOREVER = 'while True: time.sleep(1)\n'


@pytest.fixture
def run(tmp_path):
    """Train by a script; returns the last values, and those reported."""

    def run(script, report=None):
        file = tmp_path / 'script.py'
        text = 'import sys, os\nos.chdir(sys.argv[3])\n'
        text += 'import json, signal, time\n'
        file.write_text(text + script)
        reported = []

        def listen(step, values):
            reported.append((step, values))
            if report:
                report()

        values = train(
            Config(dict(a=1)),
            # A pattern, if it is taken for one.
            str(tmp_path / 'stage[0]'),
            listen,
            command=[sys.executable, str(file)],
        )
        return values, reported

    return run


@pytest.mark.run
def test_values_are_reported_and_the_last_returned(run, tmp_path):
    one, two = (2, dict(mIoU=1.0)), (4, dict(mIoU=3.0))
    assert run(FIRST) == (dict(mIoU=1.0), [one])
    # Another run, from a checkpoint before, does it once more.
    values, reported = run(SECOND)
    assert (values, reported[-1]) == (dict(mIoU=3.0), two)
    file = tmp_path / 'stage[0]' / 'config.py'
    assert file.read_text().startswith('# Of a trial.\na = 1\n')


@pytest.mark.run
@pytest.mark.parametrize(
    'given, expected',
    [
        (None, ['LocalVisBackend']),
        (
            ['TensorboardVisBackend'],
            ['TensorboardVisBackend', 'LocalVisBackend'],
        ),
        (['mmengine.LocalVisBackend'], ['mmengine.LocalVisBackend']),
    ],
    ids=str,
)
def test_values_are_written_where_they_are_read(tmp_path, given, expected):
    cfg = Config(dict(visualizer=dict(type='SegLocalVisualizer')))
    if given:
        cfg.visualizer.vis_backends = [dict(type=name) for name in given]
    before = cfg.pretty_text
    with pytest.raises(TrialFailed, match='without a validation'):
        train(cfg, str(tmp_path), command=[sys.executable, '-c', ''])
    trained = Config.fromfile(tmp_path / 'config.py')
    backends = trained.visualizer.vis_backends
    assert [backend.type for backend in backends] == expected
    assert cfg.pretty_text == before


@pytest.mark.run
@pytest.mark.parametrize(
    'script, sentence',
    [
        (
            "print('Error: x'); sys.exit('Error: CamVid is not there')",
            'CamVid is not there',
        ),
        (
            "print('fine'); raise MemoryError('CUDA out of\\nmemory')",
            'MemoryError: CUDA out of',
        ),
        ('os.kill(os.getpid(), 9)', 'the process was ended by SIGKILL'),
        ('sys.exit(3)', 'exit status 3'),
        ('', 'the training ended without a validation'),
        (
            LOG.format(
                '1', [dict(loss=1.0, iter=1), dict(loss='N', iter=2)]
            ).replace("'N'", "float('nan')")
            + FOREVER,
            'the loss is nan at iteration 2',
        ),
    ],
)
def test_what_fails_is_one_sentence(run, script, sentence):
    with pytest.raises(TrialFailed) as error:
        run(script)
    assert str(error.value) == sentence


@pytest.mark.run
def test_a_full_disk_is_no_failure_of_the_trial(run):
    script = f"print('Error: it is full'); sys.exit({Unavailable.status})"
    with pytest.raises(Unavailable, match='^it is full$'):
        run(script)


@pytest.mark.run
def test_a_training_beside_another_is_no_failure_of_the_trial(tmp_path):
    """By the tool: a worker that was paused may come back to its training."""
    cfg = Config.fromfile(tiny_config.write_config(tmp_path))
    with open(tmp_path / '.lock', 'w') as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        with pytest.raises(Occupied, match='^another training .* is running'):
            train(cfg, str(tmp_path))


@pytest.mark.run
def test_what_is_pruned_ends(run, tmp_path):
    class Pruned(Exception):
        pass

    def report():
        raise Pruned

    with pytest.raises(Pruned):
        run(
            f"open('pid', 'w').write(str(os.getpid()))\n{FIRST}{FOREVER}",
            report,
        )
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / 'stage[0]' / 'pid').read_text()), 0)


@pytest.mark.run
@pytest.mark.skipif(sys.platform != 'linux', reason='Linux has it alone')
def test_a_killed_worker_takes_its_training_with_it():
    child = subprocess.Popen(
        [sys.executable, '-c', PARENT], stdout=subprocess.PIPE, text=True
    )
    # It ends with the last process that writes to it.
    pid = child.stdout.readline()
    child.kill()
    assert child.stdout.read() == ''
    assert pid.strip().isdigit()
    child.wait()


PARENT = """
import subprocess, sys
from mmseg_autodeeplab.search.processes import end_with_parent
child = subprocess.Popen(
    [sys.executable, '-c', 'import time; time.sleep(600)'],
    start_new_session=True, preexec_fn=end_with_parent())
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize(
    'cfg',
    [
        {'a': {"b': 1, 'c': open('canary', 'w'), 'd": 1}},
        {'_base_': 'other.py'},
        {'a': '{{fileDirname}}'},
    ],
    ids=['a key that is code', '_base_', 'a placeholder'],
)
def test_the_config_that_is_trained_holds_no_code(tmp_path, cfg):
    """A study may be a stranger's, whose trials are trained for longer."""
    folder = tmp_path / 'trial'
    with pytest.raises(UserError, match='cannot be written as text'):
        train(Config(cfg), str(folder))
    assert not folder.exists()
