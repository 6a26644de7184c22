"""Losses that go wrong: which one, where, and nothing of it is saved."""

import math
import os
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from small_search import build, search_config

from mmseg_autodeeplab.engine import FiniteLossHook, SampleStream
from mmseg_autodeeplab.errors import UserError


def guarded_config(tmp_path, save, **kwargs):
    cfg = search_config(tmp_path, **kwargs)
    cfg.default_hooks.checkpoint.update(
        interval=save, backend_args=dict(backend='atomic')
    )
    cfg.default_hooks.finite_loss = dict(type='FiniteLossHook')
    return cfg


def stop(cfg):
    """The sentence with which a search ends."""
    with pytest.raises(UserError) as error:
        build(cfg).train()
    message = str(error.value)
    assert '\n' not in message
    return message


def saved(cfg):
    """Iterations of the checkpoints; none has a value that is not finite."""
    found = []
    for name in os.listdir(cfg.work_dir):
        if name.endswith('.pth'):
            state = torch.load(f'{cfg.work_dir}/{name}', weights_only=False)
            assert all(
                v.isfinite().all() for v in state['state_dict'].values()
            )
            found.append(state['meta']['iter'])
    return sorted(found)


@pytest.fixture
def spoil_third(monkeypatch):
    """One pixel that is not finite, in the third batch of a part."""
    files = []

    def spoil(part):
        load = SampleStream.__next__

        def third_is_bad(self):
            batch = load(self)
            is_part = self.loader.sampler.sampler.part == part
            if is_part and self.position == 3 * self.batch_size:
                batch['inputs'] = [x.float() for x in batch['inputs']]
                batch['inputs'][0][0, 0, 0] = math.nan
                files.extend(s.img_path for s in batch['data_samples'])
            return batch

        monkeypatch.setattr(SampleStream, '__next__', third_is_bad)
        return files

    return spoil


@pytest.mark.run
@pytest.mark.parametrize('save', [1, 100])
@pytest.mark.parametrize(
    'part,step,losses',
    [
        ('A', 'weight', 'loss is nan, decode.loss_ce is nan'),
        ('B', 'architecture', 'arch_loss is nan'),
    ],
)
def test_a_loss_is_reported_in_its_own_iteration(
    tmp_path, spoil_third, part, step, losses, save
):
    files = spoil_third(part)
    cfg = guarded_config(tmp_path, save, max_iters=6, interval=100)
    message = stop(cfg)
    assert f'In the {step} step of iteration 3, ' in message
    assert f'{losses}, on {", ".join(files)}; ' in message
    assert len(files) == 2
    assert saved(cfg) == ([1, 2] if save == 1 else [])
    if save == 1:
        good = os.path.join(os.path.abspath(cfg.work_dir), 'iter_2.pth')
        way_out = f'--resume from the last good checkpoint, {good}.'
    else:
        way_out = 'start anew, as no checkpoint was saved before.'
    assert message.endswith(way_out)
    assert not os.path.exists(f'{cfg.work_dir}/architecture.json')


@pytest.mark.run
def test_weights_that_a_finite_loss_has_spoilt(tmp_path, monkeypatch):
    step = OptimWrapper.step
    steps = []

    def second_overflows(self, **kwargs):
        step(self, **kwargs)
        steps.append(self)
        if len(steps) == 2:
            self.optimizer.param_groups[0]['params'][-1].data[-1] = math.inf

    monkeypatch.setattr(OptimWrapper, 'step', second_overflows)
    cfg = guarded_config(tmp_path, save=1, begin=3)
    message = stop(cfg)
    assert message.startswith('After iteration 2, decode_head.')
    assert 'holds values that are not finite, so no checkpoint is' in message
    assert saved(cfg) == [1] and 'iter_1.pth.' in message


def runner_at(iteration):
    return SimpleNamespace(
        iter=iteration - 1,
        message_hub=SimpleNamespace(get_info=lambda key: f'{key}.pth'),
    )


BATCH = dict(data_samples=[SimpleNamespace(img_path='a.png')])


def test_a_loss_that_is_no_tensor_counts_but_an_accuracy_does_not():
    hook = FiniteLossHook()
    outputs = dict(loss=2.0, loss_of_b=torch.tensor(1.0), acc=math.nan)
    hook.after_train_iter(runner_at(1), 0, BATCH, outputs)
    with pytest.raises(
        UserError, match='weight step of iteration 2, loss is inf, on a'
    ):
        hook.after_train_iter(
            runner_at(2), 1, BATCH, dict(outputs, loss=math.inf)
        )
