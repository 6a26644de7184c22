import json
import math
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper

from mmseg_autodeeplab.cli import benchmark, measurement
from mmseg_autodeeplab.models import complexity

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
TOOL = 'analysis_tools/benchmark_search'
KEYS = ('crop', 'batch', 'layers', 'form', 'with_cp', 'half')


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'search_tiny.py'
    path.write_text(f"""
_base_ = [{str(CONFIGS / 'autodeeplab' / 'search_demo.py')!r}]
model = dict(
    backbone=dict(
        num_layers=3, num_blocks=1, filter_multiplier=2, stem_channels=4),
    decode_head=dict(in_channels=[2, 4, 8, 16]))
""")
    return path


@pytest.fixture
def measured(monkeypatch):
    """Instead of measuring: numbers that tell the cases apart."""
    calls = []

    def isolated(function, cfg, **options):
        assert function is benchmark.measure_search
        calls.append(dict(options, cfg=cfg))
        net = cfg.model.backbone
        cost = options['crop'] ** 2 * options['batch'] * net.num_layers
        cost *= 3 if net.get('form') == 'reference' else 2
        if options['batch'] > 100:
            return dict(error='out of memory')
        return {
            half: dict(
                samples=[
                    cost * (len(calls) + i) for i in range(options['iters'])
                ],
                peak=cost * len(half),
                working=cost * (len(half) - 1),
                built=1000,
            )
            for half in options['halves']
        }

    monkeypatch.setattr(measurement, 'isolated', isolated)
    monkeypatch.setattr(
        complexity, 'count_multiply_adds', lambda model, *size: 1000
    )
    return calls


def table_rows(printed, which=0):
    tables = [
        [
            tuple(cell.strip() for cell in line.strip('|').split('|'))
            for line in block.splitlines()
            if line.startswith('|')
        ]
        for block in printed.split('\n\n')
        if block.startswith('| ')
    ]
    return tables[which]


def keys_of(rows):
    return [tuple(row[key] for key in KEYS) for row in rows]


def check_ratios(found):
    rows = dict(zip(keys_of(found['rows']), found['rows']))
    for ratio in found['ratios']:
        key = {k: ratio[k] for k in KEYS}
        other = {
            'reference': dict(form='reference'),
            'with_cp off': dict(with_cp='off'),
            'weights': dict(half='weights'),
        }[ratio['relative_to']]
        row = rows[tuple(key.values())]
        base = rows[tuple({**key, **other}.values())]
        assert row is not base
        assert ratio['time'] == row['seconds'] / base['seconds']
        for name in ('peak', 'working'):
            if base[name]:
                assert ratio[name] == row[name] / base[name]


@pytest.mark.run
def test_a_measurement(config, run_tool, tmp_path, capsys):
    run_tool(
        TOOL,
        config,
        *('--crop', 33, '--form', 'fused', '--device', 'cpu'),
        *('--iters', 2, '--threads', 1, '--project'),
        *('--json', tmp_path / 'out' / 'found.json'),
    )
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / 'out' / 'found.json').read_text())
    for key in ('device', 'torch', 'date'):
        assert found[key] in printed
    assert found['threads'] == 1 and 'threads 1' in printed

    assert keys_of(found['rows']) == [
        (33, 4, 3, 'fused', 'off', half)
        for half in ('weights', 'arch', 'iteration')
    ]
    printed_rows = table_rows(printed)[2:]
    assert [row[:6] for row in printed_rows] == [
        tuple(map(str, key)) for key in keys_of(found['rows'])
    ]
    for row, cells in zip(found['rows'], printed_rows):
        assert len(row['samples']) == 2
        assert 0 < row['seconds_min'] <= row['seconds'] <= row['seconds_max']
        assert row['multiply_adds_per_second'] == pytest.approx(
            row['multiply_adds'] / row['seconds']
        )
        assert row['built'] > 0
        assert cells[6] == f'{row["seconds"]:.4g}'
        assert cells[9] == f'{row["peak"] / measurement.MIB:.1f}'
        assert cells[10] == f'{row["working"] / measurement.MIB:.1f}'
        assert row['working'] <= row['peak']
    weights, arch, both = found['rows'][:3]
    assert both['samples'] == [
        a + b for a, b in zip(weights['samples'], arch['samples'])
    ]
    assert both['peak'] == max(weights['peak'], arch['peak'])
    forward = weights['multiply_adds'] / 3
    assert arch['multiply_adds'] == 2 * forward
    assert both['multiply_adds'] == 5 * forward

    # Of arch and of both to weights.
    assert len(found['ratios']) == len(table_rows(printed, 1)) - 2 > 0
    check_ratios(found)
    # search_demo.py: 450 iterations, the architecture from 112 on.
    assert '450 weight halves and 338 architecture halves' in printed
    (row,) = found['projection']
    assert row['seconds'] == pytest.approx(
        450 * weights['seconds'] + 338 * arch['seconds']
    )


def test_combinations_multiply(config, run_tool, tmp_path, capsys, measured):
    run_tool(
        TOOL,
        config,
        *('--crop', '33,65', '--batch', '1,2,200', '--layers', '3,4'),
        *('--form', 'reference,fused', '--rounds', 2, '--iters', 3),
        *('--device', 'cpu', '--json', tmp_path / 'found.json'),
    )
    cases = [
        (crop, batch, layers, form)
        for crop in (33, 65)
        for batch in (1, 2, 200)
        for layers in (3, 4)
        for form in ('reference', 'fused')
    ]
    # Round by round.
    assert cases * 2 == [
        (
            call['crop'],
            call['batch'],
            call['cfg'].model.backbone.num_layers,
            call['cfg'].model.backbone.form,
        )
        for call in measured
    ]
    for call in measured:
        size = call['cfg'].model.data_preprocessor.size
        assert tuple(size) == (call['crop'], call['crop'])
    found = json.loads((tmp_path / 'found.json').read_text())
    assert len(found['rows']) == 3 * len(cases)
    printed = table_rows(capsys.readouterr().out)[2:]
    assert len(printed) == len(found['rows'])
    for row, cells in zip(found['rows'], printed):
        if row['batch'] == 200:
            assert row['error'] == cells[6] == 'out of memory'
            assert 'seconds' not in row
        else:
            assert len(row['samples']) == 6
    check_ratios(found)
    assert {r['relative_to'] for r in found['ratios']} == {
        'reference',
        'weights',
    }
    # Without those that ran out of memory.
    assert len(found['ratios']) == 3 * 8 + 2 * 8
    assert all(r['time'] == r['time'] < math.inf for r in found['ratios'])


def test_one_half(config, run_tool, tmp_path, measured):
    run_tool(
        TOOL,
        config,
        *('--half', 'arch', '--device', 'cpu'),
        *('--json', tmp_path / 'found.json'),
    )
    found = json.loads((tmp_path / 'found.json').read_text())
    # All else as in the config.
    assert keys_of(found['rows']) == [(96, 4, 3, 'fused', 'off', 'arch')]
    assert found['ratios'] == [] and measured[0]['halves'] == ['arch']
    assert 'form' not in measured[0]['cfg'].model.backbone


def test_what_fits(config, run_tool, tmp_path, capsys, measured, monkeypatch):
    # The memory of the fixture's numbers, as if it were that of a GPU.
    monkeypatch.setattr(benchmark, 'check_device', lambda device: 'cuda')
    monkeypatch.setattr(
        measurement,
        'environment',
        lambda device: dict(device='none', date='today'),
    )
    small, large = 1000 + 321**2 * 3 * 2 * 7 * 5, 50
    run_tool(
        TOOL,
        config,
        *('--fit', f'{small / 2**30!r},{large}'),
        *('--json', tmp_path / 'found.json'),
    )
    printed = table_rows(capsys.readouterr().out, -1)
    assert printed[0][3:] == ('GB', 'batch at crop 321', 'crop at batch 2')
    first, second = json.loads((tmp_path / 'found.json').read_text())['fit']
    assert first['batch'] == 5
    # Bytes per pixel at batch 2: layers, fused, and the longer name's half.
    cost = 2 * 3 * 2 * 7
    assert 1000 + first['crop'] ** 2 * cost <= small
    assert 1000 + (first['crop'] + 32) ** 2 * cost > small
    # Larger batches run out of memory.
    assert second['batch'] == 100
    assert printed[2][4:] == (str(first['batch']), str(first['crop']))


@pytest.mark.parametrize(
    'options,sentence',
    [
        (['--form', 'wrong'], 'fused and reference, one or several with comm'),
        (['--half', 'weights,'], '--half takes weights and arch'),
        (['--crop', '129,x'], '--crop takes positive numbers'),
        (['--batch', '0'], '--batch takes positive numbers'),
        (
            ['--cfg-options', 'model.data_preprocessor.size=(64,96)'],
            'does not say what --crop is to be: give --crop',
        ),
        (['--iters', '0'], '--iters is 0, but must be at least 1'),
        (['--device', 'cuda'], '--device cuda needs a GPU'),
        (['--device', 'cpu', '--amp', 'bf16'], '(--amp) needs a GPU'),
        (['--device', 'cpu', '--fit', '80'], '--fit measures the memory'),
        (['--project', '--half', 'arch'], '--project needs both halves'),
    ],
)
def test_mistakes_are_one_sentence(
    config, failure, monkeypatch, options, sentence
):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    assert sentence in failure(TOOL, config, *options)


def test_a_config_that_is_no_search(failure):
    config = CONFIGS / 'camvid/fcn-unet-s5-d16_1xb4-600i_camvid-128x128.py'
    assert 'is not one of a search' in failure(TOOL, config)


PLACE = 'mmengine.optim.AmpOptimWrapper'


@pytest.mark.parametrize('kind', ['AmpOptimWrapper', PLACE, AmpOptimWrapper])
def test_mixed_precision_of_the_config(config, failure, kind):
    spelled, imports = repr(kind), ''
    if not isinstance(kind, str):
        spelled = 'Amp'
        imports = 'from mmengine.optim import AmpOptimWrapper as Amp'
    text = Config.fromfile(config).pretty_text
    config.write_text(
        f'{imports}\n{text}\noptim_wrapper["type"] = {spelled}\n'
    )
    error = failure(TOOL, config, '--device', 'cpu')
    assert '(--amp) needs a GPU' in error


@pytest.mark.parametrize('place', ['inside', 'outside'])
def test_images_of_four_channels(
    config, run_tool, measured_here, tmp_path, place
):
    """With a class for a type, and the preprocessor in or out of the model."""
    cfg = Config.fromfile(config)
    preprocessor = cfg.model.pop('data_preprocessor')
    preprocessor.update(mean=[0] * 4, std=[1] * 4, bgr_to_rgb=False)
    owner = cfg.model if place == 'inside' else cfg
    owner.data_preprocessor = preprocessor
    config.write_text(
        'from mmseg_autodeeplab.models import AutoDeepLabSupernet as Net\n'
        f'{cfg.pretty_text}\n'
        'model["backbone"].update(type=Net, in_channels=4)\n'
    )
    run_tool(
        TOOL,
        *(config, '--crop', 33, '--device', 'cpu', '--iters', 1),
        *('--json', tmp_path / 'found.json'),
    )
    rows = json.loads((tmp_path / 'found.json').read_text())['rows']
    assert [row['form'] for row in rows] == ['fused'] * 3
    assert all(row['seconds'] > 0 for row in rows)


def test_a_mistake_that_the_model_finds(config, failure, measured_here):
    message = failure(TOOL, config, '--device', 'cpu', '--crop', 32)
    assert 'set crop_size to 33 or more' in message
