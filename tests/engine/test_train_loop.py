"""A run that is resumed against the run that was never stopped."""

import importlib.util
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner, ValLoop
from mmseg.registry import METRICS
from small_search import search_config, segmentor

from mmseg_autodeeplab.arch import AutoDeepLabArchitecture, Connection
from mmseg_autodeeplab.engine import (
    ScheduledDropPathHook,
    SeededDataset,
    SyncStatisticsHook,
    bare_model,
)

pytestmark = pytest.mark.run

MOMENTUM = 0.4  # of averages
ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location(
    'check_resume', ROOT / 'tools' / 'checks' / 'resume.py'
)
check_resume = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_resume)


def config(tmp_path, name, resume_from=None, workers=0):
    """A search with all that is random; validation after 3 of 6 steps."""
    cfg = search_config(tmp_path, max_iters=6, begin=1, interval=2)
    cfg.work_dir = str(tmp_path / name)
    cfg.model.decode_head.dropout_ratio = 0.1
    cfg.optim_wrapper.optimizer.lr = 0.5  # For metrics that move.
    loader = cfg.train_dataloader
    loader.dataset.pipeline.insert(2, dict(type='PhotoMetricDistortion'))
    cfg.val_dataloader = dict(
        loader, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    loader.update(num_workers=workers, persistent_workers=workers > 0)
    cfg.val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    cfg.val_cfg = dict(type='ValLoop')
    cfg.train_cfg.val_interval = 3
    cfg.default_hooks.checkpoint.update(interval=1, save_best='mIoU')
    cfg.default_hooks.sync_statistics = dict(type='SyncStatisticsHook')
    if resume_from:
        cfg.update(resume=True, load_from=str(resume_from))
    return cfg


def train(cfg, *hooks):
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return Path(runner.work_dir)


def differences(straight, resumed):
    return list(
        check_resume.differences(
            *(
                check_resume.final_state(folder, 'iter_6.pth')
                for folder in (straight, resumed)
            )
        )
    )


def exactness_warnings(work_dir):
    """Warnings of the last run in a folder."""
    log = max(work_dir.glob('*/*.log'), key=os.path.getmtime)
    return [
        line
        for line in log.read_text().splitlines()
        if 'WARNING' in line and 'not exactly' in line
    ]


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
    """A run that was never stopped; its data are loaded without workers."""
    return train(config(tmp_path_factory.mktemp('straight'), 'straight'))


@pytest.mark.parametrize('stop,workers', [(2, 0), (3, 0), (2, 1), (3, 3)])
def test_not_a_bit_differs(straight, tmp_path, stop, workers):
    """Now with a validation after the checkpoint, now with other workers."""
    folder = tmp_path / 'resumed'
    shutil.copytree(
        straight, folder, ignore=shutil.ignore_patterns('2*', 'iter_6*')
    )
    file = straight / f'iter_{stop}.pth'
    train(config(tmp_path, 'resumed', file, workers))
    assert differences(straight, folder) == []
    assert exactness_warnings(folder) == []


def test_workers_change_nothing(straight, tmp_path):
    assert (
        differences(straight, train(config(tmp_path, 'new', workers=2))) == []
    )


class Stopped(Exception):
    pass


@pytest.mark.parametrize('stop', [3, 6])
def test_a_validation_is_caught_up(straight, tmp_path, monkeypatch, stop):
    """The checkpoint is written before it, its metrics are in no file."""
    validate, found, stops = ValLoop.run, [], []

    def recorded(self):
        if self.runner.iter in stops:
            raise Stopped
        found.append(self.runner.iter)
        return validate(self)

    monkeypatch.setattr(ValLoop, 'run', recorded)
    stops.append(stop)
    with pytest.raises(Stopped):
        train(config(tmp_path, 'stopped'))
    found.clear()
    stops.clear()
    file = tmp_path / 'stopped' / f'iter_{stop}.pth'
    stopped = train(config(tmp_path, 'stopped', file))
    assert found == [3, 6][stop // 6 :]
    assert differences(straight, stopped) == []


def test_validation_does_not_disturb_training(straight, tmp_path):
    """Its data are random, too, in these tests."""
    cfg = config(tmp_path, 'rare')
    cfg.train_cfg.val_interval = 6
    ends = (
        torch.load(folder / 'iter_6.pth', weights_only=False)['state_dict']
        for folder in (straight, train(cfg))
    )
    assert list(check_resume.differences(*ends)) == []


def test_the_comparison_sees_randomness(straight, tmp_path):
    """Or the tests above would prove nothing."""
    cfg = config(tmp_path, 'resumed', straight / 'iter_2.pth')
    cfg.train_cfg.type = 'IterBasedTrainLoop'
    found = differences(straight, train(cfg))
    assert 'state_dict.backbone.alphas' in found
    assert any(name.startswith('optimizer.state') for name in found)


def test_a_resume_reads_no_batch_again(straight, tmp_path, monkeypatch):
    load, numbers = SeededDataset.__getitem__, []

    def recorded(self, sample):
        numbers.append((self.key[-1], sample[1]))
        return load(self, sample)

    monkeypatch.setattr(SeededDataset, '__getitem__', recorded)
    train(config(tmp_path, 'resumed', straight / 'iter_4.pth'))
    part_a, part_b = ord('A'), ord('B')
    # Part B begins an iteration later.
    assert numbers == [
        (part, number)
        for i in (4, 5)
        for part, first in ((part_a, 2 * i), (part_b, 2 * i - 2))
        for number in (first, first + 1)
    ]


def drop_path_config(tmp_path, name, resume_from=None):
    cfg = config(tmp_path, name, resume_from)
    block = (Connection(1, 'sep_conv_3x3'), Connection(0, 'max_pool_3x3'))
    cfg.model.backbone = dict(
        type='AutoDeepLab',
        arch=AutoDeepLabArchitecture([block], [4, 4, 8]).to_dict(),
        filter_multiplier=2,
        stem_channels=4,
    )
    cfg.model.decode_head = dict(
        type='FCNHead',
        in_channels=4,
        channels=4,
        num_classes=6,
        norm_cfg=dict(type='BN'),
    )
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler')
    cfg.custom_hooks = [dict(type='ScheduledDropPathHook', keep_prob=0.2)]
    return cfg


def test_drop_path_goes_on_where_it_was(tmp_path, monkeypatch):
    """Its probabilities and its drops follow the iteration."""
    probs = []
    before = ScheduledDropPathHook.before_train_iter

    def recorded(self, runner, *args, **kwargs):
        before(self, runner, *args, **kwargs)
        probs.append([cell.keep_prob for cell in runner.model.backbone.cells])

    monkeypatch.setattr(ScheduledDropPathHook, 'before_train_iter', recorded)
    straight = train(drop_path_config(tmp_path, 'straight'))
    expected = probs[:]
    assert expected[4][-1] == pytest.approx(1 - 4 / 6 * 0.8)
    probs.clear()
    file = straight / 'iter_4.pth'
    resumed = train(drop_path_config(tmp_path, 'resumed', file))
    assert probs == expected[4:]
    a, b = (
        torch.load(folder / 'iter_6.pth', weights_only=False)
        for folder in (straight, resumed)
    )
    for key in ('state_dict', 'optimizer'):
        assert list(check_resume.differences(a[key], b[key])) == []


def test_a_finite_sampler_begins_again(tmp_path):
    """Four images, two per iteration, six iterations."""
    cfg = drop_path_config(tmp_path, 'finite')
    cfg.train_dataloader.sampler = dict(type='DefaultSampler')
    cfg.train_dataloader.dataset.num_images = 4
    train(cfg)


def changed_checkpoint(straight, tmp_path, change):
    content = torch.load(straight / 'iter_1.pth', weights_only=False)
    change(content['message_hub']['runtime_info'])
    file = tmp_path / 'iter_1.pth'
    torch.save(content, file)
    cfg = config(tmp_path, 'resumed', file)
    cfg.train_cfg.max_iters = 2
    return cfg


def test_one_warning_names_all_that_is_not_exact(straight, tmp_path):
    cfg = changed_checkpoint(
        straight,
        tmp_path,
        lambda info: info['seeded_loop'].update(
            {'the number of processes': 3}
        ),
    )
    cfg.randomness.seed = 5
    cfg.train_dataloader.update(num_workers=1, batch_size=1)
    cfg.optim_wrapper.accumulative_counts = 2
    (warning,) = exactness_warnings(train(cfg))
    assert 'processes is 1, but was 3 at the checkpoint' in warning
    assert 'images per iteration is 1, but was 2' in warning
    assert 'seed is 5, but was 0' in warning
    assert 'gradients of 1 iterations were accumulated' in warning
    assert 'worker' not in warning and 'device' not in warning


def test_a_checkpoint_of_another_loop(straight, tmp_path):
    """Or of an earlier version: it goes on from the iteration's place."""
    cfg = changed_checkpoint(
        straight, tmp_path, lambda info: info.pop('seeded_loop')
    )
    folder = train(cfg)
    (warning,) = exactness_warnings(folder)
    assert 'does not tell where in the data it was' in warning
    content = torch.load(folder / 'iter_2.pth', weights_only=False)
    info = content['message_hub']['runtime_info']
    assert info['seeded_loop']['position'] == 4


@METRICS.register_module()
class MeanLogit(BaseMetric):
    """Moves with every bit of the model, of any rank."""

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            self.results.append(sample['seg_logits']['data'].mean().item())

    def compute_metrics(self, results):
        return dict(logit=sum(results))


class Statistics(Hook):
    """What a rank has before the ranks take their mean."""

    priority = 'BELOW_NORMAL'

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=1):
        state = bare_model(runner).state_dict()
        self.seen.append(
            {k: v.tolist() for k, v in state.items() if 'running' in k}
        )


def work(rank, folder, update_buffers):
    folder, seen = Path(folder), []
    for name, resume_from in (
        ('straight', None),
        ('resumed', folder / 'straight' / 'iter_2.pth'),
    ):
        cfg = config(folder, name, resume_from, workers=bool(resume_from))
        cfg.launcher = 'pytorch'
        # Of the seeds that MMEngine gives then, the first one counts.
        cfg.randomness.diff_rank_seed = True
        cfg.model_wrapper_cfg = dict(device_ids=None, broadcast_buffers=False)
        cfg.val_evaluator = dict(type='MeanLogit')
        cfg.default_hooks.checkpoint.update(save_best='logit', rule='greater')
        averages = dict(ema_type='SearchEMA', momentum=MOMENTUM)
        averages.update(type='EMAHook', update_buffers=update_buffers)
        cfg.custom_hooks.append(averages)
        statistics = Statistics()
        train(cfg, statistics)
        seen += statistics.seen
    return seen[:2]


@pytest.mark.parametrize('update_buffers', [False, True])
def test_two_ranks(tmp_path, two_ranks, update_buffers):
    """With averaged weights, whose running statistics are the ranks' mean."""
    ranks = two_ranks.run(work, str(tmp_path), update_buffers)
    straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
    assert differences(straight, resumed) == []
    assert exactness_warnings(resumed) == []

    average = {}
    for iteration, *statistics in zip((1, 2), *ranks):
        file = straight / f'iter_{iteration}.pth'
        saved = torch.load(file, weights_only=False)
        for key in statistics[0]:
            own, other = (torch.tensor(rank[key]) for rank in statistics)
            live = (own + other) / 2
            assert not torch.equal(live, own)
            before = average.get(key, live) if update_buffers else live
            average[key] = before.lerp(live, MOMENTUM)
            # EMAHook saves the live ones beside the averages.
            for part, name, expected in (
                ('state_dict', key, average[key]),
                ('ema_state_dict', f'module.{key}', live),
            ):
                torch.testing.assert_close(saved[part][name], expected)


def take_mean(rank):
    model = segmentor()
    numbers = ('data_preprocessor.std', 'decode_head.conv_seg.0.bias')
    tensors = dict(model.named_buffers(), **dict(model.named_parameters()))
    moved = next(name for name in tensors if name.endswith('running_var'))
    for name in (*numbers, moved):
        tensors[name].data.fill_(rank)
    runner = SimpleNamespace(model=model, hooks=[])
    SyncStatisticsHook().after_train_epoch(runner)
    return [tensors[name].mean().item() for name in (*numbers, moved)]


def test_the_mean_is_that_of_statistics_alone(two_ranks):
    """That of three equal numbers need not be the number."""
    assert two_ranks.run(take_mean) == [[0, 0, 0.5], [1, 1, 0.5]]


class Draws(Hook):
    """Draw a number in each iteration and in each validation."""

    def __init__(self):
        self.numbers = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.numbers.append(torch.rand(1).item())

    def before_val_epoch(self, runner):
        self.numbers.append(torch.rand(1).item())


def drawn(tmp_path, name, seed, launcher='none'):
    """Four numbers: of three iterations and of the validation behind them."""
    cfg, draws = config(tmp_path, name), Draws()
    cfg.launcher = launcher
    cfg.model_wrapper_cfg = dict(device_ids=None, broadcast_buffers=False)
    cfg.randomness.seed = seed
    cfg.train_cfg.max_iters = 3
    train(cfg, draws)
    return draws.numbers


def test_numbers_are_of_the_seed_and_of_the_iteration(tmp_path):
    first, second, again = (
        drawn(tmp_path, f'run_{i}', seed) for i, seed in enumerate((0, 1, 0))
    )
    assert len(set(first + second)) == 8
    assert again == first


def draw_on_a_rank(rank, folder):
    return drawn(Path(folder), 'ranks', 0, 'pytorch')


def test_every_process_has_numbers_of_its_own(tmp_path, two_ranks):
    numbers = two_ranks.run(draw_on_a_rank, str(tmp_path))
    assert len(set(sum(numbers, []))) == 8


# Three steps of the cosine begin at 0.025, 0.019 and 0.007.
@pytest.mark.parametrize('schedule,last', [('search', 0.007), ('retrain', 0)])
def test_schedules_end_with_a_training_of_any_length(tmp_path, schedule, last):
    file = ROOT / 'configs' / '_base_' / 'schedules' / f'{schedule}.py'
    cfg = search_config(tmp_path, max_iters=3)
    cfg.param_scheduler = Config.fromfile(file).param_scheduler
    runner = Runner.from_cfg(cfg)
    runner.train()
    rates = runner.optim_wrapper.get_lr()['lr']
    assert rates == [pytest.approx(last)] * len(rates)
