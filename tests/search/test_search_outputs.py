"""What a search logs and writes, through MMEngine's own runner."""

import json
import os

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmseg.registry import METRICS, MODELS, TASK_UTILS
from small_search import build, search_config, split_state

from mmseg_autodeeplab.arch import (
    Architecture,
    alpha_entropy,
    alpha_probabilities,
    beta_entropy,
    beta_probabilities,
    cost_tables,
    decode,
    expected_cost,
)
from mmseg_autodeeplab.search.gradient import ArchTerm
from mmseg_autodeeplab.search.history import read_history

pytestmark = pytest.mark.run


def searched(tmp_path, *hooks, **kwargs):
    runner = build(search_config(tmp_path, **kwargs))
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


def arrays(runner):
    return [p.numpy() for p in runner.model.backbone.arch_parameters()]


def logged(runner, kind='log'):
    """The log, or the lines of training in the visualizer's JSON file."""
    name = 'vis_data/' * (kind == 'json') + f'{runner.timestamp}.{kind}'
    with open(os.path.join(runner.work_dir, runner.timestamp, name)) as f:
        return f.read() if kind == 'log' else [json.loads(x) for x in f]


def test_what_is_written_and_logged(tmp_path):
    runner = searched(tmp_path, max_iters=5, begin=2, interval=2)
    architecture = Architecture.load(tmp_path / 'work' / 'architecture.json')
    alphas, betas = arrays(runner)
    assert architecture == decode(alphas, betas)
    assert architecture.provenance['iteration'] == 5
    assert 'date' in architecture.provenance

    log = logged(runner)
    for iteration in (2, 4, 5):
        assert f'Architecture after {iteration} iterations:\npath ' in log
    assert 'Architecture after 3' not in log
    path = '-'.join(map(str, architecture.path))
    assert f'path {path}\ncell 2: ' in log

    scalars = logged(runner, 'json')
    keys = {'arch_loss', 'arch_lr', 'alpha_entropy', 'beta_entropy'}
    assert [keys <= set(line) for line in scalars] == [False] * 2 + [True] * 3
    assert scalars[-1]['arch_lr'] == 0.003
    assert scalars[-1]['alpha_entropy'] == alpha_entropy(alphas)
    assert scalars[-1]['beta_entropy'] == beta_entropy(betas)
    assert scalars[-1]['arch_loss'] != scalars[-1]['loss']

    records = read_history(runner.work_dir)
    assert [record.iteration for record in records] == [0, 2, 4, 5]
    np.testing.assert_allclose(records[-1].alphas, alphas, atol=5e-9)
    np.testing.assert_allclose(records[-1].betas, betas, atol=5e-9)
    assert decode(records[-1].alphas, records[-1].betas) == architecture
    assert (records[0].alphas == records[1].alphas).all()
    assert records[0].notes['versions']['torch'] == torch.__version__


def test_what_a_resumed_search_does_not_go_through_is_forgotten(tmp_path):
    searched(tmp_path, max_iters=4, interval=1)
    first = read_history(str(tmp_path / 'work'))
    cfg = search_config(tmp_path, max_iters=5, interval=3)
    cfg.load_from = str(tmp_path / 'work' / 'iter_2.pth')
    cfg.resume = True
    build(cfg).train()
    second = read_history(str(tmp_path / 'work'))
    assert [record.iteration for record in first] == [0, 1, 2, 3, 4]
    assert [record.iteration for record in second] == [0, 1, 2, 3, 5]
    for before, after in zip(first[:4], second):
        assert (before.alphas == after.alphas).all()
    # Where the run went on, it says with what.
    assert 'versions' in second[2].notes and 'versions' not in second[3].notes


def test_what_a_cost_adds(tmp_path):
    term = dict(
        type='CostTerm',
        target=1e5,
        quantity='parameters',
        filter_multiplier=4,
    )
    runner = searched(tmp_path, max_iters=2, terms=[term])
    tables = cost_tables(1, 3, 'parameters', filter_multiplier=4)
    alphas, betas = arrays(runner)
    expected = expected_cost(
        tables, alpha_probabilities(alphas), beta_probabilities(betas)
    )
    line = logged(runner, 'json')[-1]
    assert line['expected_cost'] == pytest.approx(expected, rel=1e-12)
    assert line['arch_cost_loss'] > 0

    architecture = Architecture.load(tmp_path / 'work' / 'architecture.json')
    metrics = architecture.provenance['metrics']
    assert metrics['expected_cost'] == line['expected_cost']
    backbone = MODELS.build(
        dict(type='AutoDeepLab', arch=architecture, filter_multiplier=4)
    )
    assert metrics['decoded_cost'] == sum(
        p.numel() for p in backbone.parameters()
    )


def test_the_old_spelling_is_the_same_search(tmp_path):
    cost = dict(target=1e5, quantity='parameters', weight=9.0)
    ends = [
        arrays(searched(tmp_path, max_iters=2, **kwargs))
        for kwargs in (
            dict(cost=cost),
            dict(terms=[dict(cost, type='CostTerm')]),
            dict(),
        )
    ]
    assert (ends[0][1] == ends[1][1]).all()
    assert (ends[0][1] != ends[2][1]).any()


class SquareTerm(ArchTerm):
    """Of a user's own: half the sum of the squares of the alphas."""

    name = 'arch_square_loss'

    def __call__(self, alphas, betas):
        return 1000 * alphas.square().sum() / 2

    def measures(self, alphas, betas):
        return dict(sum_of_squares=float((alphas**2).sum()))

    def measures_of(self, architecture):
        return dict(length=len(architecture.path))


class First(Hook):
    def before_train(self, runner):
        self.alphas = split_state(runner)[1]['alphas']


def test_a_term_of_a_user(tmp_path):
    """SGD on what this term adds to the gradient, 1000 times the alphas."""
    cfg = dict(max_iters=1, optimizer=dict(type='SGD', lr=1e-3))
    first = First()
    ends = []
    TASK_UTILS.register_module(module=SquareTerm)
    try:
        for terms in ([], [dict(type='SquareTerm')]):
            runner = searched(tmp_path, first, terms=terms, **cfg)
            ends.append(split_state(runner)[1]['alphas'])
    finally:
        del TASK_UTILS.module_dict['SquareTerm']
    torch.testing.assert_close(
        ends[0] - ends[1], first.alphas, rtol=1e-3, atol=1e-8
    )
    line = logged(runner, 'json')[-1]  # Both runs may be of one second.
    assert line['arch_square_loss'] == pytest.approx(
        500 * first.alphas.square().sum().item()
    )
    assert line['sum_of_squares'] == pytest.approx(
        ends[1].square().sum().item()
    )
    architecture = Architecture.load(tmp_path / 'work' / 'architecture.json')
    assert architecture.provenance['metrics']['length'] == 3


@METRICS.register_module()
class MetricsOfAnyKind(BaseMetric):
    """What MMEngine allows."""

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(
            score=float('nan'),
            rate=np.float32(0.5),
            no=None,
            word='good',
            ious=[0.5, float('inf')],
            table=np.array([[1, 2]]),
            counts=torch.tensor([3.0, float('nan')]),
            nested=dict(classes={0: 0.5}),
            heat=np.zeros((1000, 1000)),
        )


def test_metrics_of_any_kind(tmp_path):
    cfg = search_config(tmp_path, max_iters=4, interval=1)
    cfg.train_cfg.val_interval = 2
    cfg.val_dataloader = dict(
        cfg.train_dataloader,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    cfg.val_evaluator = dict(type='MetricsOfAnyKind')
    cfg.val_cfg = dict(type='ValLoop')
    cfg.default_hooks.checkpoint.update(save_best='score', rule='greater')
    build(cfg).train()
    file = tmp_path / 'work' / 'architecture.json'
    lines = (tmp_path / 'work' / 'arch_history.jsonl').read_text()
    for text in (file.read_text(), *lines.split('\n')[1::2]):
        json.loads(text, parse_constant=pytest.fail)
    metrics = Architecture.load(file).provenance['metrics']
    del metrics['alpha_entropy'], metrics['beta_entropy']
    assert metrics == dict(
        score=None,
        rate=0.5,
        no=None,
        word='good',
        ious=[0.5, None],
        table=[[1, 2]],
        counts=[3.0, None],
        nested=dict(classes={'0': 0.5}),
    )
    # What is not a number is never the best.
    assert not list((tmp_path / 'work').glob('best_*'))
