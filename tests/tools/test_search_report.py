"""The report of a search, from the files that one leaves behind."""

import html
import json
import os
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from torch.utils.flop_counter import FlopCounterMode

from mmseg_autodeeplab.arch import (
    alpha_probabilities,
    beta_probabilities,
    decode,
    num_edges,
    transition_mask,
)
from mmseg_autodeeplab.visualization.history import (
    append_record,
    read_history,
    read_json_lines,
)
from mmseg_autodeeplab.visualization.report import read_search, render_report

NASTY = '<script>alert("x")</script>.py'


def parameters(iteration, num_blocks=2, num_layers=4):
    rng = np.random.default_rng(iteration)
    return (
        rng.normal(size=(num_edges(num_blocks), 8)).astype(np.float32),
        rng.normal(size=(num_layers, 4, 3)).astype(np.float32),
    )


def write_config(folder, hooks=('ArchSearchHook',)):
    folder.mkdir(parents=True)
    Config(
        dict(
            # Not imported: nothing of it runs.
            custom_imports=dict(imports=['no_such_module']),
            model=dict(
                data_preprocessor=dict(size=(96, 96)),
                backbone=dict(num_layers=4, num_blocks=2),
            ),
            train_dataloader=dict(
                batch_size=8, dataset=dict(type='ShapesDataset')
            ),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.025)),
            train_cfg=dict(max_iters=60),
            custom_hooks=[dict(type=hook) for hook in hooks],
            retrain=dict(model=dict(backbone=dict(filter_multiplier=16))),
        )
    ).dump(str(folder / 'config.py'))


def write_run(work_dir, name, steps, **values):
    """Log lines of a run whose loss is 100 minus the iteration."""
    folder = work_dir / name / 'vis_data'
    write_config(folder)
    with open(folder / 'scalars.json', 'w') as f:
        for step in steps:
            line = dict(loss=100.0 - step, arch_loss=200.0 - step, **values)
            f.write(json.dumps(dict(line, step=step)) + '\n')
    return folder / 'scalars.json'


@pytest.fixture
def work_dir(tmp_path):
    """A search that was resumed from iteration 30, and still runs."""
    work_dir = tmp_path / 'work'
    write_run(work_dir, '20260101_000000', range(10, 51, 10), mark=1)
    for iteration in (0, 15, 30, 45):
        notes = {} if iteration else dict(config=NASTY)
        append_record(work_dir, iteration, *parameters(iteration), **notes)
    write_run(work_dir, '20260102_000000', (40, 50), mark=2)
    append_record(work_dir, 30, *parameters(30))
    with open(work_dir / '20260102_000000/vis_data/scalars.json', 'a') as f:
        f.write('{"mIoU": 12.345, "step": 50}\n{"mIoU": 67.8, "st')
    return work_dir


def test_torn_and_abandoned_lines(work_dir):
    search = read_search(str(work_dir))
    assert [(x['step'], x.get('mark')) for x in search.scalars] == [
        *((10, 1), (20, 1), (30, 1), (40, 2), (50, 2), (50, None))
    ]
    assert search.curve('mIoU') == [(50, 12.345)]
    assert [record.iteration for record in search.records] == [0, 15, 30]


@pytest.mark.parametrize('cut', [1, 2, 100])
def test_a_torn_history_goes_on(work_dir, cut):
    file = work_dir / 'arch_history.jsonl'
    file.write_bytes(file.read_bytes()[:-cut])
    whole = [0, 15, 30] if cut == 1 else [0, 15, 30, 45]
    found = read_history(str(work_dir))
    assert [record.iteration for record in found] == whole
    append_record(work_dir, 20, *parameters(20))
    found = read_history(str(work_dir))
    assert [record.iteration for record in found] == [0, 15, 20]
    np.testing.assert_allclose(found[-1].betas, parameters(20)[1], atol=1e-8)


def test_lines_that_are_no_objects(tmp_path):
    file = tmp_path / 'lines'
    file.write_text('{"a": 1}\n\n[1]\n3\n{"b"\n{"c": 2}\n')
    assert read_json_lines(str(file)) == [dict(a=1), dict(c=2)]
    assert read_json_lines(str(tmp_path / 'none')) == []


def element(page, tag, name):
    pattern = rf'<{tag}[^>]*id="{name}"[^>]*>(.*?)</{tag}>'
    return re.search(pattern, page, re.DOTALL).group(1)


def test_numbers_of_the_page_are_those_of_the_logs(work_dir):
    search = read_search(str(work_dir))
    page = render_report(search)
    rows = dict(
        re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td></tr>', page)
    )
    assert rows['Iterations'] == '50 of 60'
    assert rows['Losses: weights, part A'] == '50 (iteration 50)'
    assert rows['Losses: architecture, part B'] == '150 (iteration 50)'
    assert rows['Validation: mIoU'] == '12.345 (iteration 50)'
    assert rows['Runs'] == '20260101_000000, 20260102_000000'

    backbone = MODELS.build(
        dict(
            type='AutoDeepLab',
            arch=decode(*parameters(30)),
            filter_multiplier=16,
        )
    )
    count = sum(p.numel() for p in backbone.parameters())
    assert rows['Parameters, backbone without head'] == f'{count:,}'
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone.eval()(torch.zeros(1, 3, 96, 96))
    count = counter.get_total_flops() // 2
    key = 'Multiply-adds at 96 × 96 pixels, backbone without head'
    assert rows[key] == f'{count:,}'

    data = json.loads(element(page, 'script', 'data'))
    assert data['iterations'] == [0, 15, 30]
    exists = transition_mask(4)
    for i, iteration in enumerate(data['iterations']):
        alphas, betas = parameters(iteration)
        found = data['maps']['alphas']['values'][i]
        expected = 1000 * alpha_probabilities(alphas).ravel()
        np.testing.assert_allclose(found, expected, atol=0.51)
        found = data['maps']['betas']['values'][i]
        expected = 1000 * beta_probabilities(betas)[exists]
        np.testing.assert_allclose(sorted(found), sorted(expected), atol=0.51)
    # Without scripts, or on paper, the last state is there.
    for name in ('alphas', 'betas'):
        cells = re.findall(
            r'<td class="(p[^"]*)"[^>]*>([^<]*)</td>',
            element(page, 'table', name),
        )
        shown = data['maps'][name]
        values = [round(float(text) * 10) for _, text in cells]
        assert values == shown['values'][-1]
        framed = [i for i, (classes, _) in enumerate(cells) if ' ' in classes]
        assert framed == shown['chosen'][-1]


def test_curves_go_through_the_logged_points(work_dir):
    page = render_report(read_search(str(work_dir)))
    points = re.search(r'<polyline[^>]*points="([^"]*)"', page).group(1)
    xs, ys = np.array([p.split(',') for p in points.split()], dtype=float).T
    assert len(xs) == 5
    # Iterations at equal distances, and a loss that falls by as much.
    np.testing.assert_allclose(np.diff(xs), np.diff(xs)[0], atol=0.02)
    np.testing.assert_allclose(np.diff(ys), np.diff(ys)[0], atol=0.02)
    assert np.diff(xs)[0] > 0 and np.diff(ys)[0] > 0


def test_nothing_is_loaded_and_all_is_escaped(work_dir):
    (work_dir / 'iter_30.pth').touch()
    page = render_report(read_search(str(work_dir)))
    for word in ('http:', 'https:', 'src=', '@import', '<script>alert'):
        assert word not in page, word
    assert not re.search(r'url\((?!#)|href="(?!#|data:,)', page)
    assert page.count(html.escape(NASTY)) >= 2
    assert 'iter_30.pth' in page
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert '$' not in page


def test_the_size_of_the_paper_s_search(tmp_path):
    """12 layers, 5 blocks, a line of the log every 50 iterations."""
    work_dir = tmp_path / 'work'
    write_run(work_dir, '20260101_000000', range(50, 29761, 50))
    records = [parameters(i, 5, 12) for i in range(5)]
    for i in range(600):
        append_record(work_dir, 50 * i, *records[i % 5])
    page = render_report(read_search(str(work_dir)))
    assert len(page.encode()) < 3e6
    data = json.loads(element(page, 'script', 'data'))
    assert data['iterations'][0] == 0
    assert data['iterations'][-1] == 50 * 599


def test_a_search_that_has_just_begun(tmp_path):
    write_config(tmp_path / '20260101_000000' / 'vis_data')
    page = render_report(read_search(str(tmp_path)))
    assert '0 of 60' in page and 'Nothing is logged yet' in page
    assert 'Nothing is decoded yet' in page


def test_the_tool(run_tool, work_dir, capsys):
    for name in ('iter_20.pth', 'iter_30.pth'):
        (work_dir / name).touch()
    os.utime(work_dir / 'iter_20.pth', (0, 0))
    file = work_dir / 'search_report.html'
    for _ in range(2):  # It is made again and again.
        run_tool('analysis_tools/search_report', work_dir)
        assert capsys.readouterr().out == f'Written: {file}\n'
    page = file.read_text()
    assert f'python tools/decode.py {work_dir / "iter_30.pth"}\n' in page
    retrain = work_dir / 'decoded' / 'retrain.py'
    assert f'python tools/train.py {retrain}' in page


def test_no_search(failure, tmp_path):
    for _ in range(2):
        text = failure('analysis_tools/search_report', tmp_path)
        assert f'{tmp_path} holds no search' in text
        assert not (tmp_path / 'search_report.html').exists()
        # Nor is the retraining of one.
        if not list(tmp_path.iterdir()):
            write_config(tmp_path / 'run' / 'vis_data', ['AnotherHook'])
