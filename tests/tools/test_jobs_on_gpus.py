"""Tools with ``--jobs`` let each job see one of the GPUs."""

import subprocess
from pathlib import Path

import pytest
from small_study import search_config, worker

DEMO = Path(__file__).resolve().parents[2] / 'configs/autodeeplab'


@pytest.fixture
def seen(monkeypatch):
    """The GPUs of each process that is begun, of which none begins."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,7')
    found = []

    def refuse(command, env=None, **options):
        found.append((env or {}).get('CUDA_VISIBLE_DEVICES'))
        raise PermissionError('no process here')

    monkeypatch.setattr(subprocess, 'Popen', refuse)
    return found


def test_of_rerank(tmp_path, run_tool, seen, monkeypatch):
    monkeypatch.setattr(
        'mmseg_autodeeplab.search.retrain_config', lambda cfg, found: (cfg, [])
    )
    cfg = search_config(trials=2)
    worker(tmp_path, cfg).run()
    (tmp_path / 'search_config.py').write_text(cfg.pretty_text)
    with pytest.raises((SystemExit, PermissionError)):
        run_tool('rerank', tmp_path, '--jobs', 2)
    assert seen and set(seen) <= {'4', '7'}


def test_of_compare_search(tmp_path, run_tool, seen):
    config = DEMO / 'search_demo.py'
    options = '--searches', 2, '--random', 1, '--jobs', 2
    with pytest.raises((SystemExit, PermissionError)):
        run_tool(
            'analysis_tools/compare_search',
            config,
            *options,
            *('--work-dir', tmp_path),
        )
    assert seen and set(seen) <= {'4', '7'}
