"""Losses that go wrong: which one, where, and nothing of it is saved."""

import copy
import math
import os
import weakref
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop
from small_search import build, search_config

from mmseg_autodeeplab.arch import alpha_entropy, beta_entropy
from mmseg_autodeeplab.engine import FiniteLossHook
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search.gradient import ArchSearchHook
from mmseg_autodeeplab.search.history import read_history


def guarded_config(
    tmp_path, save=100, snapshot=100, log=100, draw=0, validate=0, **kwargs
):
    cfg = search_config(tmp_path, interval=snapshot, **kwargs)
    cfg.default_hooks.logger.interval = log
    cfg.default_hooks.checkpoint.update(
        interval=save, backend_args=dict(backend='atomic')
    )
    cfg.default_hooks.finite_loss = dict(type='FiniteLossHook')
    cfg.default_hooks.runtime_info = dict(type='DeferredRuntimeInfoHook')
    if draw:
        cfg.custom_hooks.append(
            dict(type='SearchVisualizationHook', interval=draw)
        )
    if validate:
        cfg.val_dataloader = dict(
            copy.deepcopy(cfg.train_dataloader),
            sampler=dict(type='DefaultSampler', shuffle=False),
        )
        cfg.val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
        cfg.val_cfg = dict(type='ValLoop')
        cfg.train_cfg.val_interval = validate
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


@pytest.mark.parametrize(
    'intervals,found',
    [
        (dict(save=1), 3),
        (dict(save=4), 4),
        (dict(log=4), 4),
        (dict(snapshot=4), 4),
        (dict(draw=4), 4),
        (dict(validate=4), 4),
        (dict(), 6),
    ],
    ids=str,
)
def test_a_loss_of_the_weights(tmp_path, monkeypatch, intervals, found):
    """Of the third iteration, found where values are read, and named."""
    files, iterations = [], []
    run_iter = IterBasedTrainLoop.run_iter

    def third_is_bad(self, batch):
        iterations.append(self.iter + 1)
        if self.iter == 2:
            files.extend(spoil(batch))
        run_iter(self, batch)

    monkeypatch.setattr(IterBasedTrainLoop, 'run_iter', third_is_bad)
    cfg = guarded_config(tmp_path, max_iters=6, **intervals)
    message = stop(cfg)
    assert (
        'In iteration 3, in the step on the weights, loss is nan, '
        'decode.loss_ce is nan, on ' + ', '.join(files)
    ) in message
    assert len(files) == 2
    assert iterations == list(range(1, found + 1))
    if intervals == dict(save=1):
        good = os.path.join(os.path.abspath(cfg.work_dir), 'iter_2.pth')
        way_out = f'--resume from the last good checkpoint, {good}.'
    else:
        way_out = 'start anew, as no checkpoint was saved before.'
    assert message.endswith(way_out)
    assert saved(cfg) == ([1, 2] if intervals == dict(save=1) else [])
    assert not os.path.exists(f'{cfg.work_dir}/architecture.json')
    assert [r.iteration for r in read_history(cfg.work_dir)] == (
        [0] if 'draw' in intervals else []
    )


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
    """Found by whatever reads first, in the last iteration if nothing does.

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


def runner_at(iteration, warn=None, interval=1, hook=None, max_iters=100):
    return SimpleNamespace(
        iter=iteration - 1,
        max_iters=max_iters,
        hooks=[hook or LoggerHook(interval=interval)],
        train_dataloader=range(100),
        logger=SimpleNamespace(warning=warn),
        message_hub=SimpleNamespace(get_info=lambda key: f'{key}.pth'),
    )


BATCH = dict(data_samples=[SimpleNamespace(img_path='a.png')])


@pytest.mark.parametrize(
    'reader',
    [
        dict(hook=LoggerHook(interval=4)),
        # On every process, not only on that which saves.
        dict(hook=CheckpointHook(by_epoch=False, interval=4)),
        dict(interval=100, max_iters=4),
    ],
    ids=['line', 'checkpoint', 'end'],
)
def test_nothing_is_read_before(reader):
    """Tensors of the meta device have no values that could be read."""
    hook, loss = FiniteLossHook(), torch.zeros((), device='meta')
    for i in range(3):
        runner = runner_at(i + 1, **reader)
        hook.after_train_iter(runner, i, BATCH, dict(loss=loss, acc=loss))
        hook.watch(runner, 'architecture', dict(arch_loss=loss), BATCH)
    # The test can fail: here something reads.
    with pytest.raises((RuntimeError, NotImplementedError), match='meta'):
        hook.after_train_iter(runner_at(4, **reader), 3, BATCH, dict())


def test_no_graph_is_kept():
    hook, weight = FiniteLossHook(), torch.ones((), requires_grad=True)
    loss = weight * 2
    graph = weakref.ref(loss)
    hook.watch(runner_at(1), 'weights', dict(loss=loss), BATCH)
    del loss
    assert graph() is None
    assert hook._watched


def test_a_loss_that_is_no_tensor_counts_but_an_accuracy_does_not():
    hook = FiniteLossHook()
    outputs = dict(loss=2.0, loss_of_b=torch.tensor(1.0), acc=math.nan)
    hook.after_train_iter(runner_at(1), 0, BATCH, outputs)
    with pytest.raises(UserError, match='on the weights, loss is inf, on a'):
        hook.after_train_iter(
            runner_at(2), 1, BATCH, dict(outputs, loss=math.inf)
        )


@pytest.mark.parametrize('interval', [1, 6])
def test_tolerance_counts_losses_in_a_row(interval):
    """However many are looked at together."""
    hook, warnings = FiniteLossHook(tolerance=2), []
    nan, inf = math.nan, math.inf
    bad_architecture = dict(arch_loss=inf)
    for i, loss in enumerate([nan, inf, 1.0, nan, -inf], 1):
        runner = runner_at(i, warnings.append, interval)
        hook.after_train_iter(runner, i - 1, BATCH, dict(loss=loss))
        if i < 3:
            hook.watch(runner, 'architecture', bad_architecture, BATCH)
    if interval == 6:
        assert warnings == []
        hook.check(runner)
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
        hook.after_train_iter(
            runner_at(6, interval=interval), 5, BATCH, dict(loss=nan)
        )
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
