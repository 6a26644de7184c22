"""Averaged weights in a search, with the architecture as it is."""

import copy

import pytest
import torch
from mmengine.hooks import Hook
from small_search import build, search_config, search_hook

pytestmark = pytest.mark.run
MOMENTUM = 0.1


class Trace(Hook):
    """The model after each iteration, and the alphas in validation."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.states, self.in_validation = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=1):
        self.states.append(copy.deepcopy(runner.model.state_dict()))

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.in_validation.append(copy.deepcopy(runner.model.state_dict()))


def searched(tmp_path, ema_type='SearchEMA', max_iters=6, **changes):
    cfg = search_config(tmp_path, max_iters=max_iters)
    cfg.custom_hooks.append(
        dict(type='EMAHook', ema_type=ema_type, momentum=MOMENTUM)
    )
    cfg.val_dataloader = copy.deepcopy(cfg.train_dataloader)
    cfg.val_dataloader.update(
        batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    cfg.val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    cfg.val_cfg = dict(type='ValLoop')
    cfg.train_cfg.val_interval = 4
    cfg.update(changes)
    runner = build(cfg)
    trace = Trace()
    runner.register_hook(trace)
    runner.train()
    return runner, trace.states, trace.in_validation


def checkpoint(runner, iteration):
    file = f'{runner.work_dir}/iter_{iteration}.pth'
    return torch.load(file, weights_only=False)


def test_weights_are_averaged_and_the_architecture_is_not(tmp_path):
    runner, states, in_validation = searched(tmp_path)
    saved = checkpoint(runner, 4)
    average = copy.deepcopy(states[0])
    for state in states[1:4]:
        for key, value in state.items():
            if value.is_floating_point():
                average[key].lerp_(value, MOMENTUM)
    live = states[3]
    parameters = dict(runner.model.named_parameters())
    assert saved['state_dict'].keys() == live.keys()
    for key, value in saved['state_dict'].items():
        if key in ('backbone.alphas', 'backbone.betas'):
            assert torch.equal(value, live[key]), key
            assert not torch.equal(value, average[key])
        elif key in parameters or key.endswith('.weight'):
            torch.testing.assert_close(value, average[key])
            assert not torch.equal(value, live[key]), key
        else:  # Statistics of batch norm.
            assert torch.equal(value, live[key]), key
        # Validation, after the fourth iteration, has the same.
        assert torch.equal(in_validation[0][key], value), key
        # And the search goes on with weights of its own.
        assert torch.equal(saved['ema_state_dict'][f'module.{key}'], live[key])
    assert search_hook(runner).arch_step.backbone is runner.model.backbone


def test_a_resumed_search_has_the_same_averages(tmp_path):
    straight, states, _ = searched(tmp_path)
    expected = checkpoint(straight, 6)
    resumed, resumed_states, _ = searched(
        tmp_path, load_from=f'{straight.work_dir}/iter_4.pth', resume=True
    )
    found = checkpoint(resumed, 6)
    assert len(resumed_states) == 2
    for part in ('state_dict', 'ema_state_dict'):
        for key, value in expected[part].items():
            assert torch.equal(found[part][key], value), (part, key)
    for key, value in states[-1].items():
        assert torch.equal(resumed_states[-1][key], value), key


@pytest.mark.parametrize(
    'ema_type', ['ExponentialMovingAverage', 'StochasticWeightAverage']
)
def test_averages_of_the_architecture_are_refused(tmp_path, ema_type):
    cfg = search_config(tmp_path)
    cfg.custom_hooks.append(dict(type='EMAHook', ema_type=ema_type))
    with pytest.raises(ValueError) as error:
        build(cfg).train()
    message = str(error.value)
    assert f'ema_type {ema_type} would average' in message
    assert "set its ema_type to 'SearchEMA'" in message
    assert '\n' not in message
