"""The fuzz of the report and of decode finds nothing, and finds mistakes."""

import re

import pytest
from mmengine.logging import MMLogger

from mmseg_autodeeplab.search import config_text


@pytest.fixture
def fuzz(run_tool, capsys):
    """Run it, for what it counts and prints."""

    def run(*args):
        run_tool('checks/fuzz', *args)
        return re.findall(r'(\d+) [a-z ]+', capsys.readouterr().out)

    logger = MMLogger.get_current_instance()
    level = logger.level
    yield run
    logger.setLevel(level)


def test_twenty_searches(fuzz):
    fine, sentences, tracebacks, executed = map(int, fuzz('--count', 20))
    assert fine + sentences == 40 and fine and sentences
    assert tracebacks == executed == 0


def test_what_it_looks_for_is_found(fuzz, capsys, monkeypatch):
    def run(reader):
        found = {}
        exec(reader.text, found)
        return {k: v for k, v in found.items() if not k.startswith('__')}

    monkeypatch.setattr(config_text._Reader, 'assignments', run)
    with pytest.raises(SystemExit) as end:
        fuzz('--count', 1, '--first', 3)
    assert end.value.code == 1
    assert 'what came with the data was run' in capsys.readouterr().out
