"""What a search says of a collapse, and of checkpoints of other searches."""

from pathlib import Path

import pytest
import torch
from small_search import build, search_config

from mmseg_autodeeplab.arch import alpha_entropy, beta_entropy
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search.gradient import ArchSearchHook

pytestmark = pytest.mark.run


@pytest.mark.parametrize('begin,warned', [(0, [2, 4]), (2, [4])])
def test_a_collapse_is_said_once_the_architecture_learns(
    tmp_path, monkeypatch, begin, warned
):
    before_train = ArchSearchHook.before_train

    def collapsed(self, runner):
        before_train(self, runner)
        alphas, betas = runner.model.backbone.arch_parameters()
        alphas[:, 3] = 5.0
        betas[:, :, 1] = 5.0

    monkeypatch.setattr(ArchSearchHook, 'before_train', collapsed)
    cfg = search_config(
        tmp_path, interval=2, begin=begin, optimizer=dict(type='SGD', lr=0.0)
    )
    runner = build(cfg)
    runner.train()
    alphas, betas = (
        p.numpy() for p in runner.model.backbone.arch_parameters()
    )
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    lines = [line for line in log.splitlines() if 'collapsing' in line]
    # The last one is written twice, and MMEngine drops a repeated warning.
    assert len(lines) == len(warned)
    for line, iteration in zip(lines, warned):
        assert line.endswith(
            f'WARNING - After {iteration} iterations, the search may be '
            'collapsing: 2 of 2 connections are skip_connect, and all layers '
            f'are at stride 4, with entropies of {alpha_entropy(alphas):.3f} '
            f'(alphas) and {beta_entropy(betas):.3f} (betas).'
        )


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
