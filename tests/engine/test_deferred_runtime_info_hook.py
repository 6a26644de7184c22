"""The log of training, with losses that are read late."""

import copy
import json
import os

import numpy as np
import pytest
import torch
from mmengine.hooks import RuntimeInfoHook
from small_search import build, search_config

from mmseg_autodeeplab.engine import DeferredRuntimeInfoHook
from mmseg_autodeeplab.engine.hooks.scalars import as_numbers

HOOKS = ['RuntimeInfoHook', 'DeferredRuntimeInfoHook']


def config(tmp_path, hook, max_iters=8):
    """Lines, checkpoints and validations each at iterations of their own."""
    cfg = search_config(tmp_path / hook, max_iters=max_iters)
    cfg.default_hooks.update(
        runtime_info=dict(type=hook),
        logger=dict(type='LoggerHook', interval=3, log_metric_by_epoch=False),
        checkpoint=dict(
            type='CheckpointHook', by_epoch=False, interval=4, save_best='mIoU'
        ),
    )
    cfg.log_processor.update(
        window_size=4,
        custom_cfg=[
            dict(
                data_src='loss',
                log_name='loss_of_all',
                method_name='mean',
                window_size='global',
            )
        ],
    )
    cfg.val_dataloader = copy.deepcopy(cfg.train_dataloader)
    cfg.val_dataloader.update(
        batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    cfg.val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    cfg.val_cfg = dict(type='ValLoop')
    cfg.train_cfg.val_interval = 5
    return cfg


def lines(runner):
    """What went into the log; times are never the same."""
    file = os.path.join(
        runner.work_dir, runner.timestamp, 'vis_data', 'scalars.json'
    )
    with open(file) as f:
        logged = [json.loads(line) for line in f]
    return [
        {k: v for k, v in line.items() if 'time' not in k} for line in logged
    ]


def histories(runner):
    """What checkpoints remember of every iteration, by file and name."""
    found = {}
    for name in sorted(os.listdir(runner.work_dir)):
        if name.endswith('.pth'):
            state = torch.load(f'{runner.work_dir}/{name}', weights_only=False)
            for key, buffer in state['message_hub']['log_scalars'].items():
                if 'time' not in key:
                    found[name, key] = buffer.data
    return found


def assert_same(stock, deferred):
    assert lines(deferred) == lines(stock)
    expected, found = histories(stock), histories(deferred)
    assert found.keys() == expected.keys()
    for key, data in expected.items():
        for a, b in zip(found[key], data):
            np.testing.assert_array_equal(a, b, str(key))


def test_the_log_and_checkpoints_are_those_of_the_stock_hook(tmp_path):
    runners = []
    for hook in HOOKS:
        runners.append(build(config(tmp_path, hook)))
        runners[-1].train()
    stock, deferred = runners
    (hook,) = (h for h in deferred.hooks if isinstance(h, RuntimeInfoHook))
    assert type(hook) is DeferredRuntimeInfoHook
    # The second is the last of an epoch, the fifth and eighth are validations.
    assert [line['step'] for line in lines(stock)] == [2, 3, 5, 6, 8]
    assert 'loss_of_all' in lines(stock)[0]
    counts = {
        name: len(data[0])
        for (name, key), data in histories(stock).items()
        if key == 'train/decode.loss_ce'
    }
    assert counts == {
        'iter_4.pth': 4,
        'iter_5.pth': 5,  # MMEngine saves it beside the best.
        'best_mIoU_iter_5.pth': 5,
        'iter_8.pth': 8,
    }
    assert_same(stock, deferred)


@pytest.mark.parametrize('file', ['iter_4.pth', 'best_mIoU_iter_5.pth'])
def test_nothing_is_lost_on_resume(tmp_path, file):
    resumed = []
    for hook in HOOKS:
        build(config(tmp_path, hook, max_iters=5)).train()
        cfg = config(tmp_path, hook)
        cfg.update(load_from=os.path.join(cfg.work_dir, file), resume=True)
        runner = build(cfg)
        runner.train()
        resumed.append(runner)
    assert len(histories(resumed[1])['iter_8.pth', 'train/loss'][0]) == 8
    assert_same(*resumed)


def test_checkpoints_by_epochs(tmp_path):
    """They come between two lines, and before the last iteration."""
    runners = []
    for hook in HOOKS:
        cfg = config(tmp_path, hook)
        cfg.custom_hooks = []
        cfg.train_dataloader.sampler = dict(type='DefaultSampler')
        cfg.train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=5)
        cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
        cfg.log_processor = dict(by_epoch=True)
        runner = build(cfg)
        runner.train()
        runners.append(runner)
    assert len(histories(runners[0])['epoch_1.pth', 'train/loss'][0]) == 4
    assert_same(*runners)


def test_numbers_are_those_of_item():
    values = [
        torch.tensor(1 / 3),
        torch.tensor([1 / 3], dtype=torch.float64),
        torch.tensor(1 / 3, dtype=torch.bfloat16),
        torch.tensor(torch.nan),
    ]
    records = [dict(a=values[0], b=values[1]), dict(a=0.5, b=values[2]), {}]
    first, second, third = as_numbers(records)
    assert first == dict(a=values[0].item(), b=values[1].item())
    assert second == dict(a=0.5, b=values[2].item())
    assert third == {}
    assert np.isnan(as_numbers([dict(a=values[3])])[0]['a'])
    assert as_numbers([dict(a=1)]) == [dict(a=1)]
    with pytest.raises(RuntimeError):
        as_numbers([dict(a=torch.zeros(2))])
