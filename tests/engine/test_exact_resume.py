"""A run that is resumed against the run that was never stopped."""

import importlib.util
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from mmengine.runner import Runner, ValLoop
from small_search import search_config
from torch import distributed

from mmseg_autodeeplab.arch import AutoDeepLabArchitecture, Connection
from mmseg_autodeeplab.engine import ScheduledDropPathHook
from mmseg_autodeeplab.engine.random_states import (
    get_random_states,
    set_random_states,
)

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
    loader.update(num_workers=workers, persistent_workers=workers > 0)
    loader.dataset.pipeline.insert(2, dict(type='PhotoMetricDistortion'))
    cfg.val_dataloader = dict(
        loader, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    cfg.val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    cfg.val_cfg = dict(type='ValLoop')
    cfg.train_cfg.val_interval = 3
    cfg.default_hooks.checkpoint.update(interval=1, save_best='mIoU')
    cfg.default_hooks.exact_resume = dict(type='ExactResumeHook')
    if resume_from:
        cfg.update(resume=True, load_from=str(resume_from))
    return cfg


def train(cfg):
    runner = Runner.from_cfg(cfg)
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


@pytest.mark.parametrize('workers,stops', [(0, (2, 3)), (2, (2,))])
def test_not_a_bit_differs(tmp_path, workers, stops):
    """At a checkpoint with a validation after it, and at one without."""
    straight = train(config(tmp_path, 'straight', workers=workers))
    for stop in stops:
        folder = tmp_path / f'from_{stop}'
        shutil.copytree(
            straight, folder, ignore=shutil.ignore_patterns('2*', 'iter_6*')
        )
        file = straight / f'iter_{stop}.pth'
        train(config(tmp_path, folder.name, file, workers))
        assert differences(straight, folder) == []
        assert exactness_warnings(folder) == []


class Stopped(Exception):
    pass


@pytest.mark.parametrize('stop', [3, 6])
def test_a_validation_is_caught_up(tmp_path, monkeypatch, stop):
    """The checkpoint is written before it, its metrics are in no file."""
    validate, found, stops = ValLoop.run, [], []

    def recorded(self):
        if self.runner.iter in stops:
            raise Stopped
        metrics = validate(self)
        found.append((self.runner.iter, metrics['mIoU']))
        return metrics

    monkeypatch.setattr(ValLoop, 'run', recorded)
    straight = train(config(tmp_path, 'straight'))
    expected = [value for value in found if value[0] >= stop]
    stops.append(stop)
    with pytest.raises(Stopped):
        train(config(tmp_path, 'stopped'))
    found.clear()
    stops.clear()
    file = tmp_path / 'stopped' / f'iter_{stop}.pth'
    stopped = train(config(tmp_path, 'stopped', file))
    assert found == expected
    assert differences(straight, stopped) == []


def test_validation_does_not_disturb_training(tmp_path):
    """Its data are random, too, in these tests."""
    ends = []
    for interval in (3, 6):
        cfg = config(tmp_path, f'every_{interval}')
        cfg.train_cfg.val_interval = interval
        file = train(cfg) / 'iter_6.pth'
        ends.append(torch.load(file, weights_only=False))
    for key in ('state_dict', 'exact_resume'):
        found = check_resume.differences(*(end[key] for end in ends))
        assert list(found) == []


def test_the_comparison_sees_randomness(tmp_path):
    """Or the tests above would prove nothing."""
    straight = train(config(tmp_path, 'straight'))
    cfg = config(tmp_path, 'resumed', straight / 'iter_2.pth')
    del cfg.default_hooks.exact_resume
    found = differences(straight, train(cfg))
    assert 'state_dict.backbone.alphas' in found
    assert any(name.startswith('optimizer.state') for name in found)


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
    """Its probabilities follow the iteration, its drops the random states."""
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
    for key in ('state_dict', 'optimizer', 'exact_resume'):
        assert list(check_resume.differences(a[key], b[key])) == []


@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
    cfg = config(tmp_path_factory.mktemp('stopped'), 'straight')
    cfg.train_cfg.max_iters = 2
    return train(cfg) / 'iter_1.pth'


@pytest.fixture
def checkpoint(stopped, tmp_path):
    """One amid a run, to be changed."""
    file = tmp_path / stopped.name
    shutil.copy(stopped, file)
    return file, torch.load(file, weights_only=False)


def test_one_warning_names_all_that_is_not_exact(tmp_path, checkpoint):
    file, content = checkpoint
    cfg = config(tmp_path, 'resumed', file)
    cfg.train_cfg.max_iters = 2
    cfg.randomness.seed = 5
    cfg.train_dataloader.update(num_workers=1, batch_size=1)
    cfg.optim_wrapper.accumulative_counts = 2
    content['exact_resume']['world_size'] = 3
    torch.save(content, file)
    (warning,) = exactness_warnings(train(cfg))
    assert 'world_size is 1, but was 3 at the checkpoint' in warning
    assert 'num_workers is 1, but was 0' in warning
    assert 'batch_size is 1, but was 2' in warning
    assert 'seed is 5, but was 0' in warning
    assert 'gradients of 1 iterations were accumulated' in warning
    assert 'device' not in warning and 'iteration is' not in warning


def test_a_checkpoint_without_random_states(tmp_path, checkpoint):
    file, content = checkpoint
    del content['exact_resume']
    torch.save(content, file)
    cfg = config(tmp_path, 'resumed', file)
    cfg.train_cfg.max_iters = 2
    (warning,) = exactness_warnings(train(cfg))
    assert 'the checkpoint has no random states' in warning


def test_epochs_go_on_with_a_warning(tmp_path):
    def by_epoch(name, resume_from=None):
        cfg = drop_path_config(tmp_path, name, resume_from)
        cfg.train_dataloader.sampler = dict(type='DefaultSampler')
        cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)
        cfg.default_hooks.checkpoint.by_epoch = True
        return cfg

    file = train(by_epoch('straight')) / 'epoch_1.pth'
    (warning,) = exactness_warnings(train(by_epoch('resumed', file)))
    assert 'the loop counts epochs' in warning


def test_an_unknown_version(tmp_path, checkpoint):
    file, content = checkpoint
    content['exact_resume']['version'] = 9
    torch.save(content, file)
    with pytest.raises(ValueError, match='have version 9, but .* version 1;'):
        train(config(tmp_path, 'resumed', file))


def test_the_state_is_of_tensors_and_numbers(tmp_path, checkpoint):
    _, content = checkpoint
    file = tmp_path / 'state.pth'
    torch.save(content['exact_resume'], file)
    state = torch.load(file, weights_only=True)
    assert list(check_resume.differences(content['exact_resume'], state)) == []
    assert state['iteration'] == 1 and len(state['random']) == 1


def draw():
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(),
        torch.rand(1).item(),
    )


def test_random_states_come_back():
    draw()  # An odd number of normal draws: a second one is kept for later.
    states = get_random_states()
    expected = draw()
    assert draw() != expected
    set_random_states(states)
    assert draw() == expected


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
    file, content = checkpoint
    cfg = config(tmp_path, 'resumed', file)
    if change is None:
        content['arch_search']['identity']['primitives'] = ['none']
        torch.save(content, file)
    else:
        change(cfg)
    with pytest.raises(ValueError) as error:
        train(cfg)
    assert sentence in str(error.value) and '\n' not in str(error.value)


def work(rank, folder):
    os.environ['LOCAL_RANK'] = '0'
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    folder = Path(folder)
    for name, resume_from in (
        ('straight', None),
        ('resumed', folder / 'straight' / 'iter_2.pth'),
    ):
        cfg = config(folder, name, resume_from)
        cfg.launcher = 'pytorch'
        # Or both would draw the same numbers.
        cfg.randomness.diff_rank_seed = True
        cfg.train_dataloader.sampler.seed = 0
        cfg.model_wrapper_cfg = dict(device_ids=None, broadcast_buffers=False)
        train(cfg)
        # Of both ranks, whether one end is like the other.
        torch.save(get_random_states(), folder / name / f'rank_{rank}.pth')
    distributed.destroy_process_group()


def test_two_ranks(tmp_path):
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
    assert differences(straight, resumed) == []
    ends = [
        [torch.load(folder / f'rank_{r}.pth') for r in range(2)]
        for folder in (straight, resumed)
    ]
    assert list(check_resume.differences(*ends)) == []
    final = torch.load(straight / 'iter_6.pth', weights_only=False)
    one, other = final['exact_resume']['random']
    assert 'numpy.1' in list(check_resume.differences(one, other))
