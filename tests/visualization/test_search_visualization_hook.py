"""Pictures and history of a small search."""

import json
import os
import random

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from small_search import search_config

from mmseg_autodeeplab.arch import (
    AutoDeepLabArchitecture,
    decode,
)
from mmseg_autodeeplab.search.history import read_history
from mmseg_autodeeplab.visualization import (
    SearchVisualizationHook,
    as_image,
    draw_betas,
)
from mmseg_autodeeplab.visualization.search_visualization_hook import (
    count_changes,
)

IMAGES = ('search_alphas', 'search_betas', 'search_cell', 'search_path')


def shown_config(folder, max_iters=3, interval=2):
    cfg = search_config(
        folder,
        max_iters,
        # Enough for other choices in every step.
        optimizer=dict(type='Adam', lr=1.0),
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


def test_what_is_shown_and_remembered(tmp_path, monkeypatch):
    added = []
    runner = Runner.from_cfg(shown_config(tmp_path))
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
    alphas, betas = arrays(runner)
    assert (added[-3][1] == as_image(draw_betas(betas))).all()

    records = read_history(runner.work_dir)
    assert [record.iteration for record in records] == [0, 2, 3]
    np.testing.assert_allclose(records[-1].alphas, alphas, atol=5e-9)
    np.testing.assert_allclose(records[-1].betas, betas, atol=5e-9)
    assert records[-1].architecture == decode(alphas, betas)
    assert records[0].notes['versions']['torch'] == torch.__version__

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
    assert changes == {
        after.iteration: count_changes(before.architecture, after.architecture)
        for before, after in zip(records, records[1:])
    }
    assert any(sum(pair) for pair in changes.values())


def test_images_reach_the_local_backend(tmp_path):
    runner = train(shown_config(tmp_path, max_iters=1))
    folder = os.path.join(
        runner.work_dir, runner.timestamp, 'vis_data', 'vis_image'
    )
    assert sorted(os.listdir(folder)) == [f'{name}_1.png' for name in IMAGES]


def test_a_search_is_the_same_with_and_without_pictures(tmp_path):
    """Drawing takes no random number of the training's."""

    def end(cfg):
        runner = train(cfg)
        random_state = (
            random.random(),
            np.random.random(),
            torch.rand(1).item(),
        )
        return random_state, runner.model.state_dict()

    without = shown_config(tmp_path)
    del without.default_hooks['search_visualization']
    shown, state = end(shown_config(tmp_path, interval=1))
    expected_random, expected = end(without)
    assert shown == expected_random
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_what_a_resumed_search_does_not_go_through_is_forgotten(tmp_path):
    train(shown_config(tmp_path, interval=1))
    first = read_history(str(tmp_path / 'work'))
    cfg = shown_config(tmp_path, max_iters=4, interval=2)
    cfg.load_from = str(tmp_path / 'work' / 'iter_1.pth')
    cfg.resume = True
    train(cfg)
    second = read_history(str(tmp_path / 'work'))
    assert [record.iteration for record in first] == [0, 1, 2, 3]
    assert [record.iteration for record in second] == [0, 1, 2, 4]
    assert (second[1].alphas == first[1].alphas).all()


def architecture(ops, inputs=(0, 1), path=(4, 8, 8)):
    pair = [dict(input=i, op=op) for i, op in zip(inputs, ops)]
    return AutoDeepLabArchitecture([pair], path)


@pytest.mark.parametrize(
    'after, expected',
    [
        (architecture(('skip_connect', 'sep_conv_3x3')), (0, 0)),
        # The order of a pair is that of strength, and no choice.
        (architecture(('sep_conv_3x3', 'skip_connect'), (1, 0)), (0, 0)),
        (architecture(('sep_conv_3x3', 'skip_connect')), (2, 0)),
        (architecture(('skip_connect', 'sep_conv_5x5')), (1, 0)),
        (architecture(('skip_connect', 'skip_connect'), (0, 0)), (1, 0)),
        (
            architecture(('skip_connect', 'sep_conv_3x3'), path=(4, 4, 8)),
            (0, 1),
        ),
    ],
)
def test_changes(after, expected):
    before = architecture(('skip_connect', 'sep_conv_3x3'))
    assert count_changes(before, after) == expected


def test_the_hook_comes_after_the_step_and_before_the_timer(tmp_path):
    runner = Runner.from_cfg(shown_config(tmp_path))
    order = [type(hook).__name__ for hook in runner.hooks]
    place = order.index(SearchVisualizationHook.__name__)
    assert order.index('ArchSearchHook') < place < order.index('IterTimerHook')
