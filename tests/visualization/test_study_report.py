"""The report of a black-box search."""

import pickle
import re

import numpy as np
import pytest
from small_study import search_config, worker

from mmseg_autodeeplab.files import to_json, write_atomically
from mmseg_autodeeplab.search.blackbox import (
    Reranked,
    rank_correlation,
    read_reranked,
    read_results,
    rerank_file,
)
from mmseg_autodeeplab.visualization.study_report import render_study


@pytest.fixture
def study(tmp_path):
    """Three trials, the second one the best."""
    values = {0: 50.0, 1: 70.0, 2: 60.0}
    cfg = search_config(trials=3)
    worker(tmp_path, cfg, values=values).run()
    return tmp_path


def rerank(work_dir, *values):
    for trial, proxy, value in values:
        found = Reranked(trial, proxy, value)
        file = rerank_file(str(work_dir), trial)
        write_atomically(file, to_json(found._asdict()))


def test_what_the_page_says(study):
    cfg = search_config()
    cfg.model.decode_head.in_channels = 512  # of ResNet-18
    page = render_study(str(study), cfg)
    assert 'Trials: 3 complete.' in page
    heads = re.findall(r'<h3>(Trial \d+)</h3>', page)
    assert heads == ['Trial 1', 'Trial 2', 'Trial 0']
    # That of ResNet-18 has 11.18 million.
    assert re.search(r'Parameters, with the backbone</th><td>11,\d{3},', page)
    best = max(read_results(str(study)), key=lambda r: r.rewards[-1])
    assert best.index == 1 and '<td>70</td>' in page
    assert f'python tools/decode.py {study} --top 3' in page
    assert 'python tools/rerank.py' in page
    # It loads nothing, and no two elements have one id.
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_curve_of_the_best(study):
    """The best so far never falls: its last two points are one height."""
    page = render_study(str(study), search_config())
    each, best = re.findall(r'<polyline[^>]*points="([^"]+)"', page)
    heights = [
        [float(point.split(',')[1]) for point in line.split()]
        for line in (each, best)
    ]
    # Pixels count downwards.
    assert heights[0][1] < heights[0][2] < heights[0][0]
    assert heights[1] == [heights[0][0], heights[0][1], heights[0][1]]


def test_what_was_trained_for_longer(study):
    rerank(study, (0, 50.0, 80.0), (1, 70.0, 90.0), (2, 60.0, 75.0))
    found = read_reranked(str(study))
    assert [one.trial for one in found] == [1, 0, 2]
    page = render_study(str(study), search_config())
    assert '<td>2</td><td>0</td><td>3</td><td>50</td><td>80</td>' in page
    assert 'over 3: 0.50' in page


def test_text_of_a_config_is_escaped(study):
    cfg = search_config(reward='<script>x</script>')
    page = render_study(str(study), cfg)
    assert '<script>' not in page and '&lt;script&gt;' in page


class Deadly:
    """Its pickle leaves a file behind where it is read."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), 'w')


def test_nothing_that_a_config_names_is_run(study):
    """MMSegmentation would read the weights of classes from a pickle."""
    weights, hacked = study / 'weights.pkl', study / 'hacked'
    weights.write_bytes(pickle.dumps(Deadly(hacked)))
    cfg = search_config()
    cfg.model.decode_head.loss_decode = dict(
        type='CrossEntropyLoss', class_weight=str(weights)
    )
    page = render_study(str(study), cfg)
    assert 'unknown, by this config (UserError: ' in page
    assert not hacked.exists()


@pytest.mark.parametrize(
    'second, rho',
    [
        ([1, 2, 3, 4], 1),
        ([4, 3, 2, 1], -1),
        ([1, 3, 2, 4], 0.8),
        ([1, 2, 2, 3], 0.9486833),  # scipy.stats.spearmanr
        ([10, 1e9, -5, 1e10], 0.4),
    ],
)
def test_rank_correlation(second, rho):
    assert rank_correlation([1, 2, 3, 4], second) == pytest.approx(rho)


def test_rank_correlation_of_equal_values():
    assert np.isnan(rank_correlation([1, 2], [3, 3]))
