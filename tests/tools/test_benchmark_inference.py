import json
from pathlib import Path

import pytest

from mmseg_autodeeplab.cli import measurement

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'camvid'
TOOL = 'analysis_tools/benchmark_inference'
OURS = 'autodeeplab-s_1xb4-600i_camvid-128x128'
STOCK = 'pspnet_r18-d8_4xb2-80k_cityscapes-512x1024'


def test_ours_and_a_stock_config(run_tool, measured_here, tmp_path, capsys):
    run_tool(
        TOOL,
        *(CONFIGS / f'{OURS}.py', f'mmseg::pspnet/{STOCK}.py'),
        *('--shape', 64, 96, '--batch', 2, '--iters', 2, '--threads', 1),
        *('--device', 'cpu', '--json', tmp_path / 'found.json'),
    )
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / 'found.json').read_text())
    assert 'Input: 2 x 3 x 64 x 96' in printed
    for key in ('device', 'torch', 'date'):
        assert found[key] in printed
    assert [row['config'] for row in found['rows']] == [OURS, STOCK]
    lines = [x.split('|') for x in printed.splitlines() if x.startswith('|')]
    assert len(lines) == 2 + 2
    for row, line in zip(found['rows'], lines[2:]):
        cells = [cell.strip() for cell in line[1:-1]]
        assert cells[0] == row['config']
        assert cells[1] == f'{row["parameters"] / 1e6:.2f}'
        assert len(row['samples']) == 2
        assert 0 < row['seconds_min'] <= row['seconds'] <= row['seconds_max']
        assert row['images_per_second'] == 2 / row['seconds']
        assert row['multiply_adds_per_second'] == pytest.approx(
            row['multiply_adds'] * row['images_per_second']
        )
        assert row['peak'] >= 0 and row['built'] > row['parameters']


def test_images_of_four_channels(run_tool, measured_here, tmp_path, capsys):
    other = tmp_path / 'four.py'
    config = str(CONFIGS / f'{OURS}.py')
    other.write_text(f"""
_base_ = [{config!r}]
model = dict(backbone=dict(in_channels=4))
""")
    options = ('--device', 'cpu', '--iters', 1, '--shape', 65, 97)
    run_tool(
        *(TOOL, config, other, *options, '--json', tmp_path / 'found.json'),
    )
    assert 'Input: 1 x 3/4 x 65 x 97' in capsys.readouterr().out
    three, four = json.loads((tmp_path / 'found.json').read_text())['rows']
    # One channel more enters the 64 filters of 3 x 3 of the stem.
    weights = 64 * 9
    assert four['parameters'] - three['parameters'] == weights
    outputs = 33 * 49
    found = four['multiply_adds'] - three['multiply_adds']
    assert found == weights * outputs


def test_configs_that_fail(run_tool, failure, monkeypatch, tmp_path, capsys):

    def isolated(function, cfg, **options):
        return dict(error='out of memory')

    monkeypatch.setattr(measurement, 'isolated', isolated)
    run_tool(
        TOOL,
        CONFIGS / f'{OURS}.py',
        *('--device', 'cpu', '--json', tmp_path / 'found.json'),
    )
    assert 'out of memory' in capsys.readouterr().out
    found = json.loads((tmp_path / 'found.json').read_text())
    assert found['rows'] == [dict(config=OURS, error='out of memory')]

    def assertion(function, cfg, **options):
        assert options['shape'][0] % 16 == 0, 'not divisible'

    monkeypatch.setattr(measurement, 'isolated', assertion)
    assert 'fails on such images: not divisible' in failure(
        TOOL, CONFIGS / f'{OURS}.py', '--device', 'cpu'
    )


@pytest.mark.parametrize(
    'options,sentence',
    [
        (['no_such.py'], 'the config no_such.py does not exist'),
        (['mmseg::no_such.py'], 'cannot read the config mmseg::no_such.py'),
        (['mmdet::x.py'], 'only those of mmseg'),
        (['x.py', '--shape', 1, 2, 3], '--shape takes H W'),
        (['x.py', '--batch', 0], '--batch is 0, but must be at least 1'),
        (['x.py', '--device', 'cuda'], '--device cuda needs a GPU'),
        (['x.py', '--device', 'cpu', '--amp', 'fp16'], 'fp16 needs a GPU'),
    ],
)
def test_mistakes_are_one_sentence(failure, monkeypatch, options, sentence):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    assert sentence in failure(TOOL, *options)
