"""What a search logs and writes, through MMEngine's own runner."""

import json
import os

import pytest
from mmseg.registry import MODELS
from small_search import build, search_config

from mmseg_autodeeplab.arch import (
    Architecture,
    alpha_probabilities,
    beta_probabilities,
    cost_tables,
    decode,
    expected_cost,
)
from mmseg_autodeeplab.search.gradient import ArchSearchHook


def logged_scalars(runner):
    """The lines of training as they went to the visualizer's JSON file."""
    file = os.path.join(
        runner.work_dir,
        runner.timestamp,
        'vis_data',
        f'{runner.timestamp}.json',
    )
    with open(file) as f:
        return [json.loads(line) for line in f]


def test_what_is_written_and_logged(tmp_path):
    runner = build(search_config(tmp_path, max_iters=5, begin=2, interval=2))
    runner.train()

    architecture = Architecture.load(tmp_path / 'work' / 'architecture.json')
    alphas, betas = (
        p.numpy() for p in runner.model.backbone.arch_parameters()
    )
    assert architecture == decode(alphas, betas)
    assert architecture.provenance['iteration'] == 5
    assert 'date' in architecture.provenance

    log_dir = tmp_path / 'work' / runner.timestamp
    log = (log_dir / f'{runner.timestamp}.log').read_text()
    for iteration in (2, 4, 5):
        assert f'Architecture after {iteration} iterations:\npath ' in log
    assert 'Architecture after 3' not in log
    path = '-'.join(map(str, architecture.path))
    assert f'path {path}\ncell 2: ' in log

    scalars = logged_scalars(runner)
    keys = {'arch_loss', 'arch_lr', 'alpha_entropy', 'beta_entropy'}
    assert [keys <= set(line) for line in scalars] == [False] * 2 + [True] * 3
    assert scalars[-1]['arch_lr'] == 0.003
    assert 2.0 < scalars[-1]['alpha_entropy'] <= 2.0795
    assert scalars[-1]['arch_loss'] != scalars[-1]['loss']


@pytest.mark.parametrize('ignore_last', [True, False])
@pytest.mark.parametrize('interval', [1, 3, 9])
def test_values_are_read_for_lines_of_the_log_alone(
    tmp_path, monkeypatch, interval, ignore_last
):
    """An epoch has four batches; LoggerHook may write at its end, too."""
    read = []
    log = ArchSearchHook._log

    def spy(self, runner):
        read.append(runner.iter + 1)
        log(self, runner)

    monkeypatch.setattr(ArchSearchHook, '_log', spy)
    cfg = search_config(tmp_path, max_iters=7)
    cfg.train_dataloader.dataset.num_images = 16
    cfg.default_hooks.logger.update(interval=interval, ignore_last=ignore_last)
    runner = build(cfg)
    runner.train()
    assert len(runner.train_dataloader) == 4
    lines = [line['step'] for line in logged_scalars(runner)]
    assert (
        lines
        == {
            (1, True): list(range(1, 8)),
            (1, False): list(range(1, 8)),
            (3, True): [3, 6],
            (3, False): [3, 4, 6],
            (9, True): [4],
            (9, False): [4],
        }[interval, ignore_last]
    )
    assert read == sorted({*lines, 7})


@pytest.mark.parametrize('window_size', [2, 3, 10])
def test_logged_losses_are_means(tmp_path, monkeypatch, window_size):
    """Since the last line, or over the window if that is longer."""
    losses = []
    step = ArchSearchHook.step

    def recorded(self, *args):
        out = step(self, *args)
        losses.append({name: float(value) for name, value in out.items()})
        return out

    monkeypatch.setattr(ArchSearchHook, 'step', recorded)
    cost = dict(target=1e8, weight=2.0, shape=(65, 97))
    cfg = search_config(tmp_path, max_iters=7, begin=1, cost=cost)
    cfg.default_hooks.logger.interval = 3
    cfg.train_dataloader.dataset.num_images = 16
    cfg.log_processor.window_size = window_size
    runner = build(cfg)
    runner.train()
    first, second = logged_scalars(runner)
    assert (first['step'], second['step']) == (3, 6)
    for name in ('arch_loss', 'arch_cost_loss'):
        values = [loss[name] for loss in losses]
        assert first[name] == pytest.approx(sum(values[:2]) / 2, rel=1e-5)
        last = values[2:5] if window_size <= 3 else values[:5]
        assert second[name] == pytest.approx(sum(last) / len(last), rel=1e-5)
        # What the last line left out is not lost for those who read the hub.
        hub = runner.message_hub.get_scalar(f'train/{name}')
        assert len(hub.data[0]) == 6
        assert hub.current() == pytest.approx(values[-1], rel=1e-6)


def test_what_a_cost_adds(tmp_path):
    cost = dict(target=1e5, quantity='parameters', filter_multiplier=4)
    runner = build(search_config(tmp_path, max_iters=2, cost=cost))
    runner.train()
    alphas, betas = (
        p.numpy() for p in runner.model.backbone.arch_parameters()
    )
    tables = cost_tables(1, 3, 'parameters', filter_multiplier=4)
    expected = expected_cost(
        tables, alpha_probabilities(alphas), beta_probabilities(betas)
    )
    line = logged_scalars(runner)[-1]
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


def test_an_earlier_result_is_kept(tmp_path):
    cfg = search_config(tmp_path, max_iters=1)
    os.makedirs(cfg.work_dir)
    with open(os.path.join(cfg.work_dir, 'architecture.json'), 'w') as f:
        f.write('precious')
    build(cfg).train()
    kept = [
        file
        for file in os.listdir(cfg.work_dir)
        if file.startswith('architecture_')
    ]
    assert len(kept) == 1
    with open(os.path.join(cfg.work_dir, kept[0])) as f:
        assert f.read() == 'precious'
    Architecture.load(os.path.join(cfg.work_dir, 'architecture.json'))
