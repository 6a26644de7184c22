"""Pictures of a small search."""

import json
import os
import random

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from small_search import search_config

from mmseg_autodeeplab.arch import decode, disagreement
from mmseg_autodeeplab.search.history import count_changes, read_history
from mmseg_autodeeplab.search.results import read_search
from mmseg_autodeeplab.visualization import (
    SearchVisualizationHook,
    as_image,
    draw_betas,
)
from mmseg_autodeeplab.visualization.report import render_report

pytestmark = pytest.mark.run

IMAGES = ('search_alphas', 'search_betas', 'search_cell', 'search_path')


def shown_config(folder, max_iters=3, interval=2, lr=1.0, **hook):
    cfg = search_config(
        folder,
        max_iters,
        interval=interval,
        # Enough for other choices in every step.
        optimizer=dict(type='Adam', lr=lr),
        **hook,
    )
    # Draws random numbers in every iteration.
    cfg.model.decode_head.dropout_ratio = 0.5
    cfg.default_hooks.checkpoint.interval = 1
    cfg.default_hooks.search_visualization = dict(
        type='SearchVisualizationHook', interval=interval
    )
    cfg.visualizer = dict(
        type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')]
    )
    return cfg


def train(cfg):
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def arrays(runner):
    return [p.numpy() for p in runner.model.backbone.arch_parameters()]


# At the lower rate, probability and lift disagree.
@pytest.mark.parametrize('score, lr', [('probability', 1.0), ('lift', 0.03)])
def test_what_is_shown(tmp_path, monkeypatch, score, lr):
    added = []
    runner = Runner.from_cfg(shown_config(tmp_path, lr=lr, score=score))
    monkeypatch.setattr(
        runner.visualizer,
        'add_image',
        lambda *args: added.append(args),
    )
    runner.train()
    assert [(name, step) for name, _, step in added] == [
        (name, step) for step in (2, 3) for name in IMAGES
    ]
    # The last ones are of the trained parameters, after the last step.
    _, betas = arrays(runner)
    assert bool(disagreement(betas)) == (score == 'lift')
    assert (added[-3][1] == as_image(draw_betas(betas, score))).all()
    scalars = os.path.join(
        runner.work_dir, runner.timestamp, 'vis_data', 'scalars.json'
    )
    with open(scalars) as f:
        lines = [json.loads(line) for line in f]
    changes = {
        line['step']: (line['changed_connections'], line['changed_layers'])
        for line in lines
        if 'changed_layers' in line
    }
    # ArchSearchHook has written at the same times.
    found = [
        (iteration, decode(alphas, betas, score))
        for iteration, alphas, betas, _ in read_history(runner.work_dir)
    ]
    assert changes == {
        iteration: count_changes(before, after)
        for (_, before), (iteration, after) in zip(found, found[1:])
    }
    assert any(sum(pair) for pair in changes.values())


def test_images_reach_the_local_backend(tmp_path):
    runner = train(shown_config(tmp_path, max_iters=1))
    folder = os.path.join(
        runner.work_dir, runner.timestamp, 'vis_data', 'vis_image'
    )
    assert sorted(os.listdir(folder)) == [f'{name}_1.png' for name in IMAGES]


def test_a_search_is_the_same_with_and_without_pictures(tmp_path):
    """Drawing takes no random number of the training's.

    And the report loses nothing.
    """

    def end(cfg, name):
        cfg.work_dir = str(tmp_path / name)
        runner = train(cfg)
        random_state = (
            random.random(),
            np.random.random(),
            torch.rand(1).item(),
        )
        return random_state, runner.model.state_dict()

    without = shown_config(tmp_path, interval=1)
    without.default_hooks.search_visualization.interval = 0
    shown, state = end(shown_config(tmp_path, interval=1), 'with')
    expected_random, expected = end(without, 'without')
    assert shown == expected_random
    assert all(torch.equal(state[name], expected[name]) for name in expected)

    assert list(tmp_path.glob('with/*/vis_data/vis_image'))
    assert not list(tmp_path.glob('without/*/vis_data/vis_image'))
    searches = [read_search(str(tmp_path / x)) for x in ('with', 'without')]
    for name in ('arch_loss', 'changed_connections', 'changed_layers'):
        first, second = (search.curve(name) for search in searches)
        assert first == second and len(first) == 3, name
    sizes = [len(render_report(search)) for search in searches]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


def test_the_hook_comes_after_the_step_and_before_the_timer(tmp_path):
    runner = Runner.from_cfg(shown_config(tmp_path))
    order = [type(hook).__name__ for hook in runner.hooks]
    place = order.index(SearchVisualizationHook.__name__)
    assert order.index('ArchSearchHook') < place < order.index('IterTimerHook')
