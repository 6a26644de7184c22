"""Times of a training with a frozen backbone and on its features."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_config import write_config

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools/analysis_tools/benchmark_cached_features.py'


@pytest.mark.run
def test_both_are_measured(tmp_path):
    """A process of its own pickles what it starts processes with."""
    config = write_config(tmp_path)
    text = config.read_text().replace(
        'out_indices=(0,))',
        'out_indices=(0,), frozen_stages=1, norm_eval=True)',
    )
    config.write_text(text)
    out = tmp_path / 'out.json'
    options = ['--iters', '2', '--warmup', '1', '--json', str(out)]
    run = subprocess.run(
        [sys.executable, str(TOOL), str(config), *options],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'trial of 2 iterations (min)' in run.stdout
    found = json.loads(out.read_text())
    for name in ('uncached', 'cached'):
        one = found[name]
        assert len(one['losses']) == 4 and len(one['samples']) == 2
        # Of the config's own schedule, which validates once.
        times = one['iteration'], one['validation'], one['trial']
        for iteration, validation, trial in zip(*times):
            assert iteration > 0
            assert trial == pytest.approx(2 * iteration + validation)
    assert found['cache_bytes'] > 0


def test_options_are_checked(failure, tmp_path):
    text = failure(
        'analysis_tools/benchmark_cached_features',
        write_config(tmp_path),
        '--iters',
        0,
    )
    assert '--iters and --warmup must be 1 or more' in text
