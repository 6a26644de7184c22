"""The check of memory finds a search that keeps what it should not."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'checks' / 'memory.py'

LEAK = f"""
import runpy
import sys
import torch
import mmseg_autodeeplab
from mmseg.models import EncoderDecoder

kept = []
step = EncoderDecoder.train_step

def keeping(*args, **kwargs):
    kept.append(torch.ones(2**20))  # 4 MiB
    return step(*args, **kwargs)

EncoderDecoder.train_step = keeping
sys.argv = ['memory.py', '--iters', '30']
runpy.run_path({str(TOOL)!r}, run_name='__main__')
"""


@pytest.mark.run
def test_four_mebibytes_an_iteration_are_too_much(tmp_path):
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', LEAK],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 1
    assert done.stderr.endswith('Error: it grows by more than 2%\n')
    rows = [
        [float(cell) for cell in row]
        for row in re.findall(
            r'^\| +(\d+) \| +([\d.]+) \| +([\d.]+) \|$', done.stdout, re.M
        )
    ]
    assert [row[0] for row in rows] == [10, 20, 30]
    # What was kept is what it says, in use and at the peak.
    for column in (1, 2):
        assert 38 < rows[2][column] - rows[1][column] < 60
    assert list(tmp_path.iterdir()) == []


def test_growth_is_counted_from_iteration_20_on():
    spec = importlib.util.spec_from_file_location('memory_tool', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    rows = [(10, 50, 90), (20, 100, 200), (30, 103, 202), (40, 99, 190)]
    assert tool.growth(rows) == pytest.approx([0.03, 0.01])
    assert tool.growth(rows[:2]) == [0, 0]
