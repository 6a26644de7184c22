import importlib.util
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@pytest.fixture
def run_tool(monkeypatch):
    """Run ``main()`` of a tool here, with arguments."""

    def run(name, *args):
        path = TOOLS / f'{name}.py'
        spec = importlib.util.spec_from_file_location(f'tool_{name}', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, 'argv', [str(path), *map(str, args)])
        # What the tools set for the launchers is to be restored.
        monkeypatch.setenv('LOCAL_RANK', '0')
        module.main()

    return run


@pytest.fixture
def failure(run_tool):
    """Run a tool here, for the sentence with which it exits."""

    def run(name, *args):
        with pytest.raises(SystemExit) as error:
            run_tool(name, *args)
        # Python prints a string to stderr, and exits with status 1.
        assert isinstance(error.value.code, str)
        assert '\n' not in error.value.code
        return error.value.code

    return run
