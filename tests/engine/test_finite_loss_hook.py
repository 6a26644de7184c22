"""Losses that go wrong: which one, where, and nothing of it is saved."""

import math
import os
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop
from small_search import build, search_config

from mmseg_autodeeplab.arch import alpha_entropy, beta_entropy
from mmseg_autodeeplab.engine import ArchSearchHook, FiniteLossHook
from mmseg_autodeeplab.errors import UserError


def guarded_config(tmp_path, save=100, snapshot=100, log=100, **kwargs):
    cfg = search_config(tmp_path, interval=snapshot, **kwargs)
    cfg.default_hooks.logger.interval = log
    cfg.default_hooks.checkpoint.update(
        interval=save, backend_args=dict(backend='atomic')
    )
    cfg.default_hooks.finite_loss = dict(type='FiniteLossHook')
    return cfg


def spoil(batch):
    """One pixel that is not finite, as a broken image may have."""
    batch['inputs'] = [x.float() for x in batch['inputs']]
    batch['inputs'][0][0, 0, 0] = math.nan
    return [sample.img_path for sample in batch['data_samples']]


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


def test_a_loss_of_the_weights(tmp_path, monkeypatch):
    files = []
    run_iter = IterBasedTrainLoop.run_iter

    def third_is_bad(self, batch):
        if self.iter == 2:
            files.extend(spoil(batch))
        run_iter(self, batch)

    monkeypatch.setattr(IterBasedTrainLoop, 'run_iter', third_is_bad)
    cfg = guarded_config(tmp_path, save=1)
    message = stop(cfg)
    assert (
        'In iteration 3, in the step on the weights, loss is nan, '
        'decode.loss_ce is nan, on ' + ', '.join(files)
    ) in message
    good = os.path.join(os.path.abspath(cfg.work_dir), 'iter_2.pth')
    assert message.endswith(f'--resume from the last good checkpoint, {good}.')
    assert saved(cfg) == [1, 2]
    assert len(files) == 2


@pytest.mark.parametrize(
    'bad,intervals',
    [
        (3, dict(save=1)),
        (3, dict(snapshot=1)),
        (3, dict(log=1)),
        (3, dict()),
        (4, dict()),
    ],
    ids=str,
)
def test_a_loss_of_the_architecture(tmp_path, monkeypatch, bad, intervals):
    """Found by whatever reads first, in the next iteration if nothing does.

    Not by what decodes the spoilt architecture, nor as a loss of the weights,
    which depends on it. The fourth iteration is the last.
    """
    batches, iterations = [], []
    next_batch = ArchSearchHook._next_batch
    after_train_iter = ArchSearchHook.after_train_iter

    def one_is_bad(self):
        batch = next_batch(self)
        batches.append(
            spoil(batch) if len(batches) == bad - 1 else batch['inputs']
        )
        return batch

    def counted(self, runner, *args, **kwargs):
        iterations.append(runner.iter + 1)
        after_train_iter(self, runner, *args, **kwargs)

    monkeypatch.setattr(ArchSearchHook, '_next_batch', one_is_bad)
    monkeypatch.setattr(ArchSearchHook, 'after_train_iter', counted)
    cfg = guarded_config(tmp_path, **intervals)
    message = stop(cfg)
    assert (
        f'In iteration {bad}, in the step on the architecture, arch_loss is '
        f'nan, on {", ".join(batches[bad - 1])}; '
    ) in message
    # FiniteLossHook comes first in the next iteration.
    assert iterations == list(range(1, bad + 1))
    if 'save' in intervals:
        assert saved(cfg) == list(range(1, bad))
        assert f'iter_{bad - 1}.pth.' in message
    else:
        assert saved(cfg) == []
        assert message.endswith(
            'start anew, as no checkpoint was saved before.'
        )


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


class OnDevice:
    """A loss that says when it is read."""

    def __init__(self, value, read):
        self.value, self.read = value, read

    def __float__(self):
        self.read.append(self.value)
        return self.value


def runner_at(iteration, warn=None):
    return SimpleNamespace(
        iter=iteration - 1,
        logger=SimpleNamespace(warning=warn),
        message_hub=SimpleNamespace(get_info=lambda key: f'{key}.pth'),
    )


BATCH = dict(data_samples=[SimpleNamespace(img_path='a.png')])


def test_nothing_is_read_before_the_next_iteration():
    hook, read = FiniteLossHook(), []
    losses = dict(arch_loss=OnDevice(1.0, read))
    hook.watch(runner_at(1), 'architecture', losses, BATCH)
    assert read == []
    hook.after_train_iter(
        runner_at(2), 1, BATCH, dict(loss=OnDevice(2.0, read), acc=math.nan)
    )
    assert read == [1.0, 2.0]


def test_tolerance_counts_losses_in_a_row():
    hook, warnings = FiniteLossHook(tolerance=2), []
    nan, inf = math.nan, math.inf
    bad_architecture = dict(arch_loss=inf)
    for i, loss in enumerate([nan, inf, 1.0, nan, -inf], 1):
        runner = runner_at(i, warnings.append)
        hook.after_train_iter(runner, i - 1, BATCH, dict(loss=loss))
        if i < 3:
            hook.watch(runner, 'architecture', bad_architecture, BATCH)
    assert [
        w.split(', on a.png; ')[0].split('step ')[1] for w in warnings
    ] == [
        'on the weights, loss is nan',
        'on the architecture, arch_loss is inf',
        'on the weights, loss is inf',
        'on the architecture, arch_loss is inf',
        'on the weights, loss is nan',
        'on the weights, loss is -inf',
    ]
    assert warnings[-1].endswith('; 2 in a row, of 2 that are let pass.')
    with pytest.raises(
        UserError, match='In iteration 6, in the step on the w'
    ):
        hook.after_train_iter(runner_at(6), 5, BATCH, dict(loss=nan))
    assert len(warnings) == 6


@pytest.mark.parametrize('begin,warned', [(0, [2, 4]), (2, [4])])
def test_a_collapse_is_said_once_the_architecture_learns(
    tmp_path, monkeypatch, begin, warned
):
    before_train = ArchSearchHook.before_train

    def collapsed(self, runner):
        before_train(self, runner)
        alphas, betas = self._backbone.arch_parameters()
        alphas[:, 3] = 5.0
        betas[:, :, 1] = 5.0

    monkeypatch.setattr(ArchSearchHook, 'before_train', collapsed)
    cfg = guarded_config(
        tmp_path, snapshot=2, begin=begin, optimizer=dict(type='SGD', lr=0.0)
    )
    runner = build(cfg)
    runner.train()
    alphas, betas = (
        p.numpy() for p in runner.model.backbone.arch_parameters()
    )
    log = os.path.join(runner.log_dir, f'{runner.timestamp}.log')
    with open(log) as file:
        lines = [line for line in file if 'collapsing' in line]
    # The last one is written twice, and MMEngine drops a repeated warning.
    assert len(lines) == len(warned)
    for line, iteration in zip(lines, warned):
        assert line.endswith(
            f'WARNING - After {iteration} iterations, the search may be '
            'collapsing: 2 of 2 connections are skip_connect, and all layers '
            f'are at stride 4, with entropies of {alpha_entropy(alphas):.3f} '
            f'(alphas) and {beta_entropy(betas):.3f} (betas).\n'
        )
