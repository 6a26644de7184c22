import os

# Networks of a few channels are no faster on several threads, and processes
# side by side are slower. Read when torch is imported, and by processes that
# tests start.
os.environ.setdefault('OMP_NUM_THREADS', '1')
# First of all imports: mmseg's own cannot do without mmcv.ops, for which the
# plugin puts a stand-in where they are missing.
import mmseg_autodeeplab  # noqa: F401  # isort: skip
import contextlib
import importlib.util
import io
import multiprocessing.process
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmseg.visualization import SegLocalVisualizer
from search_files import CONFIG_NAME, parameters, write_run
from two_ranks import TwoRanks

from mmseg_autodeeplab.errors import Occupied, Unavailable
from mmseg_autodeeplab.search.history import append_record

TOOLS = Path(__file__).resolve().parents[1] / 'tools'
# What only tests of the marker `run` do.
RUNS = (
    (Runner, '__init__'),
    (subprocess.Popen, '__init__'),
    (multiprocessing.process.BaseProcess, 'start'),
)


def pytest_collection_modifyitems(config, items):
    """Leave slow tests out, unless -m names them."""
    if 'slow' in config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker('slow')]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Hold what `-m "not run"` promises, in the fixtures of a test, too."""
    if item.get_closest_marker('run'):
        return (yield)

    def refuse(self, *args, **kwargs):
        pytest.fail(
            f'{type(self).__name__} starts in a test without the marker run: '
            'mark it with @pytest.mark.run'
        )

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in RUNS:
            patch.setattr(owner, name, refuse)
        return (yield)


@pytest.fixture(autouse=True)
def forget_visualizers():
    """MMEngine keeps all of a process, and hooks take the one named last.

    A config names its visualizer, so that a second run would paint into the
    folder of the first; no public function of MMEngine forgets one.
    """

    def forget():
        for cls in (Visualizer, SegLocalVisualizer):
            cls._instance_dict.clear()

    yield forget
    forget()


@pytest.fixture(scope='session')
def two_ranks():
    """Two processes that all tests share: see :class:`TwoRanks`."""
    with TwoRanks() as ranks:
        yield ranks


@pytest.fixture
def search_dir(tmp_path):
    """A search that was resumed from iteration 30, and still runs."""
    work_dir = tmp_path / 'work'
    write_run(work_dir, '20260101_000000', range(10, 51, 10), mark=1)
    for iteration in (0, 15, 30, 45):
        notes = {} if iteration else dict(config=CONFIG_NAME)
        append_record(work_dir, iteration, *parameters(iteration), **notes)
    write_run(work_dir, '20260102_000000', (40, 50), mark=2)
    append_record(work_dir, 30, *parameters(30))
    with open(work_dir / '20260102_000000/vis_data/scalars.json', 'a') as f:
        f.write('{"mIoU": 12.345, "step": 50}\n{"mIoU": 67.8, "st')
    return work_dir


@pytest.fixture
def load_tool():
    """A tool as a module, by its name below ``tools``."""

    def load(name):
        path = TOOLS / f'{name}.py'
        spec = importlib.util.spec_from_file_location(f'tool_{name}', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def run_tool(monkeypatch, forget_visualizers, load_tool):
    """Run ``main()`` of a tool here, with arguments."""

    def run(name, *args):
        module = load_tool(name)
        monkeypatch.setattr(sys, 'argv', [module.__file__, *map(str, args)])
        # A process of its own would have one of its own.
        forget_visualizers()
        # What the tools set for the launchers is to be restored.
        monkeypatch.setenv('LOCAL_RANK', '0')
        module.main()

    return run


@pytest.fixture
def failure(run_tool):
    """Run a tool here, for the sentence with which it exits."""

    def run(name, *args):
        printed = io.StringIO()
        with (
            pytest.raises(SystemExit) as error,
            contextlib.redirect_stderr(printed),
        ):
            run_tool(name, *args)
        # Python prints a string to stderr, and exits with status 1.
        sentence = error.value.code
        if sentence in (Unavailable.status, Occupied.status):
            *_, sentence = printed.getvalue().splitlines()
        assert isinstance(sentence, str)
        assert '\n' not in sentence
        return sentence

    return run
