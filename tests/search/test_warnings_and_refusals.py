"""What a search says of a collapse, and of checkpoints of other searches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_search import build, search_config

from mmseg_autodeeplab.arch import (
    Architecture,
    alpha_entropy,
    beta_entropy,
    disagreement,
)
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search.gradient import ArchSearchHook
from mmseg_autodeeplab.search.results import read_search

pytestmark = pytest.mark.run


SKIPS, LAYERS = (
    '2 of 2 connections are skip_connect',
    'all layers are at stride 4',
)


def searched(tmp_path, monkeypatch, alphas, betas, **hook):
    """A search that stands still: log and runner."""
    before_train = ArchSearchHook.before_train

    def placed(self, runner):
        before_train(self, runner)
        found = runner.model.backbone.arch_parameters()
        for param, value in zip(found, (alphas, betas)):
            param.copy_(torch.tensor(value))

    monkeypatch.setattr(ArchSearchHook, 'before_train', placed)
    optimizer = dict(type='SGD', lr=0.0)
    cfg = search_config(tmp_path, interval=2, optimizer=optimizer, **hook)
    runner = build(cfg)
    runner.train()
    return Path(runner.log_dir, f'{runner.timestamp}.log').read_text(), runner


@pytest.mark.parametrize(
    'gains,begin,warned,signs',
    [
        ((5.0, 5.0), 0, [2, 4], f'{SKIPS}, and {LAYERS}'),
        # What has hardly moved is no sign, though it decodes to the same.
        ((5.0, 0.1), 2, [4], SKIPS),
        ((0.1, 5.0), 2, [4], LAYERS),
        ((0.1, 0.1), 0, [], None),
    ],
)
def test_a_collapse_is_said_once_the_architecture_has_chosen(
    tmp_path, monkeypatch, gains, begin, warned, signs
):
    alphas, betas = np.zeros((2, 8)), np.zeros((3, 4, 3))
    alphas[:, 3], betas[:, :, 1] = gains
    log, runner = searched(tmp_path, monkeypatch, alphas, betas, begin=begin)
    found = runner.model.backbone.architecture()
    assert found.signs_of_collapse() == [SKIPS, LAYERS]
    lines = [line for line in log.splitlines() if 'collapsing' in line]
    # The last one is written twice, and MMEngine drops a repeated warning.
    assert len(lines) == len(warned)
    for line, iteration in zip(lines, warned):
        assert line.endswith(
            f'WARNING - After {iteration} iterations, the search may be '
            f'collapsing: {signs}, with entropies of '
            f'{alpha_entropy(alphas):.3f} (alphas) and '
            f'{beta_entropy(betas):.3f} (betas).'
        )


@pytest.mark.parametrize(
    'hook,path',
    [({}, (4, 4, 4)), (dict(score='lift'), (4, 8, 16))],
    ids=['default', 'lift'],
)
def test_scores_that_disagree_are_said_once_the_architecture_learns(
    tmp_path, monkeypatch, hook, path
):
    betas = np.zeros((3, 4, 3))
    betas[2, 1, 2] = 0.5
    log, runner = searched(
        tmp_path, monkeypatch, np.zeros((2, 8)), betas, begin=2, **hook
    )
    said = [
        text.splitlines()[3] == disagreement(betas)
        for text in log.split('Architecture after')[1:]
        for text in [f'{text}\n\n\n']
    ]
    assert said == [False, True, True]  # After 2, 4, and at the end.
    found = Architecture.load(tmp_path / 'work' / 'architecture.json')
    assert found.path == path
    assert found.provenance['score'] == hook.get('score', 'probability')
    assert read_search(runner.work_dir).architecture == found


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp('stopped')
    build(search_config(folder, max_iters=2)).train()
    return folder / 'work' / 'iter_2.pth'


@pytest.mark.parametrize(
    'change,sentence',
    [
        (
            lambda cfg: cfg.model.backbone.update(num_layers=4),
            'its num_layers is 3, but by the config it is 4',
        ),
        (
            lambda cfg: (
                cfg.model.backbone.update(num_blocks=2),
                cfg.model.decode_head.update(in_channels=[4, 8, 16, 32]),
            ),
            'its num_blocks is 1, but by the config it is 2',
        ),
        (
            lambda cfg: cfg.train_dataloader.sampler.update(ratio=0.25),
            'images in part A is 4, but by the config it is 2',
        ),
        (
            lambda cfg: cfg.train_dataloader.sampler.update(split_seed=2),
            'its split_id is',
        ),
        (None, "its primitives is ['none'], but by the config"),
    ],
)
def test_another_search_is_refused(tmp_path, checkpoint, change, sentence):
    file = tmp_path / 'iter_2.pth'
    content = torch.load(checkpoint, weights_only=False)
    cfg = search_config(tmp_path)
    cfg.update(resume=True, load_from=str(file))
    if change is None:
        content['arch_search']['identity']['primitives'] = ['none']
    else:
        change(cfg)
    torch.save(content, file)
    with pytest.raises(UserError) as error:
        build(cfg).train()
    assert sentence in str(error.value) and '\n' not in str(error.value)
