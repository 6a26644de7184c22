"""The page of a search, from the files that one leaves behind."""

import html
import json
import re

import numpy as np
import torch
from mmseg.registry import MODELS
from search_files import CONFIG_NAME, parameters, write_config, write_run
from torch.utils.flop_counter import FlopCounterMode

from mmseg_autodeeplab.arch import (
    alpha_probabilities,
    beta_probabilities,
    decode,
    transition_mask,
)
from mmseg_autodeeplab.search.history import append_record, count_changes
from mmseg_autodeeplab.search.results import derived_cost, read_search
from mmseg_autodeeplab.visualization.report import render_report


def element(page, tag, name):
    pattern = rf'<{tag}[^>]*id="{name}"[^>]*>(.*?)</{tag}>'
    return re.search(pattern, page, re.DOTALL).group(1)


def test_the_network_of_four_channels(search_dir):
    search = read_search(str(search_dir))
    search.config.model.backbone.in_channels = 4
    backbone = MODELS.build(
        dict(
            type='AutoDeepLab',
            arch=decode(*parameters(30)),
            filter_multiplier=16,
            in_channels=4,
        )
    )
    count = sum(p.numel() for p in backbone.parameters())
    found = derived_cost(search)
    assert found['Parameters, backbone without head'] == f'{count:,}'
    search.config.retrain.model.backbone.in_channels = 5
    count += 64 * 9
    found = derived_cost(search)
    assert found['Parameters, backbone without head'] == f'{count:,}'


def test_numbers_of_the_page_are_those_of_the_logs(search_dir):
    search = read_search(str(search_dir))
    page = render_report(search)
    rows = dict(
        re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td></tr>', page)
    )
    assert rows['Iterations'] == '50 of 60'
    assert rows['Losses: weights, part A'] == '50 (iteration 50)'
    assert rows['Losses: architecture, part B'] == '150 (iteration 50)'
    assert rows['Validation: mIoU'] == '12.345 (iteration 50)'
    after, before = decode(*parameters(30)), decode(*parameters(15))
    connections, layers = count_changes(before, after)
    key = 'Choices changed since the time before'
    assert rows[f'{key}: connections'] == f'{connections} (iteration 30)'
    assert rows[f'{key}: layers'] == f'{layers} (iteration 30)'
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


def test_a_gap_is_shown_where_it_was_logged(search_dir):
    assert 'one-hot' not in render_report(read_search(str(search_dir)))
    file = search_dir / '20260102_000000' / 'vis_data' / 'scalars.json'
    names = ('relaxed_loss', 'one_hot_loss', 'relaxed_mIoU', 'one_hot_mIoU')
    for step in (55, 60):
        line = {f'gap/{name}': step + i for i, name in enumerate(names)}
        with open(file, 'a') as f:
            f.write(f'\n{json.dumps(dict(line, step=step))}\n')
    page = render_report(read_search(str(search_dir)))
    for label, value in {
        'loss: relaxed': 60,
        'loss: one-hot': 61,
        'mIoU: relaxed': 62,
        'mIoU: one-hot': 63,
    }.items():
        row = f'Gap of the decode, part B: {label}</th><td>{value} (iteration'
        assert row in page
    assert page.count('</svg> one-hot</span>') == 2


def test_curves_go_through_the_logged_points(search_dir):
    page = render_report(read_search(str(search_dir)))
    points = re.search(r'<polyline[^>]*points="([^"]*)"', page).group(1)
    xs, ys = np.array([p.split(',') for p in points.split()], dtype=float).T
    assert len(xs) == 5
    # Iterations at equal distances, and a loss that falls by as much.
    np.testing.assert_allclose(np.diff(xs), np.diff(xs)[0], atol=0.02)
    np.testing.assert_allclose(np.diff(ys), np.diff(ys)[0], atol=0.02)
    assert np.diff(xs)[0] > 0 and np.diff(ys)[0] > 0


def test_nothing_is_loaded_and_all_is_escaped(search_dir):
    (search_dir / 'iter_30.pth').touch()
    page = render_report(read_search(str(search_dir)))
    for word in ('http:', 'https:', 'src=', '@import', '<script>alert'):
        assert word not in page, word
    assert not re.search(r'url\((?!#)|href="(?!#|data:,)', page)
    assert page.count(html.escape(CONFIG_NAME)) >= 2
    assert 'iter_30.pth' in page
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert '$' not in page


def test_whatever_a_folder_holds_is_text(tmp_path):
    bad = '<script>alert(1)</script><img src="x" onerror="alert(1)">'
    work_dir = tmp_path / '<b> "work" <'
    name = '<script>alert(2)<'
    write_run(work_dir, name, [10], hook={bad: bad, 'optimizer': {bad: [bad]}})
    config = work_dir / name / 'vis_data' / 'config.py'
    with open(config, 'a') as f:
        f.write(f'\nretrain = dict(model={bad!r})')
        f.write(f'\ntrain_cfg = dict(max_iters={bad!r})')
        f.write(f'\nrandomness = dict(seed=dict(a=[{bad!r}]))')
        f.write(f'\ntrain_dataloader = dict(dataset=dict(type={bad!r}))')
    notes = dict(config=[bad], versions={bad: bad})
    append_record(work_dir, 10, *parameters(10), **notes)
    (work_dir / 'iter_1.pth').touch()
    broken = work_dir / '<script>alert(3)<' / 'vis_data'
    broken.mkdir(parents=True)
    (broken / 'config.py').write_text(f'a = {bad!r} + 1')
    page = render_report(read_search(str(work_dir)))
    for word in ('<script>a', '<img', '<b>'):
        assert word not in page, word
    escaped = html.escape(bad)
    assert page.count(escaped) >= 8
    # Those of the page itself.
    assert page.count('<script') == 2 and page.count('</script') == 2


def test_the_size_of_the_paper_s_search(tmp_path):
    """12 layers, 5 blocks, a line of the log every 50 iterations."""
    search_dir = tmp_path / 'work'
    write_run(search_dir, '20260101_000000', range(50, 29761, 50))
    records = [parameters(i, 5, 12) for i in range(5)]
    for i in range(600):
        append_record(search_dir, 50 * i, *records[i % 5])
    page = render_report(read_search(str(search_dir)))
    assert len(page.encode()) < 3e6
    data = json.loads(element(page, 'script', 'data'))
    assert data['iterations'][0] == 0
    assert data['iterations'][-1] == 50 * 599


def test_a_search_that_has_just_begun(tmp_path):
    write_config(tmp_path / '20260101_000000' / 'vis_data')
    page = render_report(read_search(str(tmp_path)))
    assert '0 of 60' in page and 'Nothing is logged yet' in page
    assert 'Nothing is decoded yet' in page
