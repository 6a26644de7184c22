"""The long experiments, once: one kill, and a few damages."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.run
def test_a_killed_search_is_resumed_exactly(run_tool, tmp_path, capsys):
    result = tmp_path / 'result.json'
    run_tool(
        'checks/resume',
        *('--stops', 1, '--processes', 1, '--workers', 1, '--seed', 1),
        *('--work-dir', tmp_path / 'runs', '--json', result),
    )
    assert (
        '1 runs stopped before the end, no difference'
        in capsys.readouterr().out
    )
    (row,) = json.loads(result.read_text())
    assert row['signal'] == 'SIGKILL' and row['status'] == -9
    assert row['last_checkpoint'] is not None
    output = (tmp_path / 'runs' / 'stop_0' / 'output.txt').read_text()
    assert f'{row["last_checkpoint"]}.\n' in output.partition('Resuming')[2]


@pytest.mark.run
def test_a_damaged_checkpoint_is_left_out(run_tool, capsys):
    run_tool('checks/damage', *('--bits', 2, '--cuts', 1, '--runs', 0))
    assert '13 of 13 as they should be' in capsys.readouterr().out


def test_differences_are_of_bits():
    path = ROOT / 'tools' / 'checks' / 'resume.py'
    spec = importlib.util.spec_from_file_location('check_resume', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def found(a, b):
        return list(module.differences(a, b))

    nan, zero = torch.tensor([float('nan')]), torch.tensor([0.0])
    assert found(dict(x=[nan]), dict(x=[nan.clone()])) == []
    assert found(dict(x=[zero]), dict(x=[-zero])) == ['x.0']
    assert found(dict(x=[zero]), dict(x=[zero.double()])) == ['x.0']
    assert found(dict(x=1, y=2), dict(x=1)) == ['']
    assert found((1, 2.0), (1, 2)) == ['.1']
    assert found([1], [1, 2]) == ['']
