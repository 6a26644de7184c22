"""The search through MMEngine's own runner, on generated scenes."""

import copy
import itertools
import json
import os

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import MODELS

from mmseg_autodeeplab.arch import (
    Architecture,
    alpha_probabilities,
    beta_probabilities,
    cost_tables,
    decode,
    expected_cost,
)
from mmseg_autodeeplab.engine import ArchSearchHook

names = itertools.count()


def search_config(work_dir, max_iters=4, **hook):
    """A search that takes a fraction of a second."""
    norm_cfg = dict(type='BN', affine=False)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ]
    dataset = dict(
        type='ShapesDataset',
        data_root=str(work_dir / 'shapes'),
        num_images=8,
        size=(64, 64),
        pipeline=pipeline,
    )
    return Config(
        dict(
            default_scope='mmseg',
            custom_imports=dict(imports=['mmseg_autodeeplab']),
            # Runners of the same second would share their log otherwise.
            experiment_name=f'search_{next(names)}',
            work_dir=str(work_dir / 'work'),
            randomness=dict(seed=0),
            model=dict(
                type='EncoderDecoder',
                data_preprocessor=dict(
                    type='SegDataPreProcessor',
                    mean=[127.5] * 3,
                    std=[127.5] * 3,
                    size=(64, 64),
                ),
                backbone=dict(
                    type='AutoDeepLabSupernet',
                    num_layers=3,
                    num_blocks=1,
                    filter_multiplier=2,
                    stem_channels=4,
                ),
                decode_head=dict(
                    type='AutoDeepLabSearchHead',
                    in_channels=[2, 4, 8, 16],
                    num_classes=6,
                    dropout_ratio=0,
                    norm_cfg=norm_cfg,
                    align_corners=True,
                ),
                test_cfg=dict(mode='whole'),
            ),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='SplitInfiniteSampler'),
                dataset=dataset,
            ),
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(
                    type='SGD', lr=0.025, momentum=0.9, weight_decay=3e-4
                ),
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters),
            custom_hooks=[dict(type='ArchSearchHook', **hook)],
            default_hooks=dict(
                logger=dict(
                    type='LoggerHook', interval=1, log_metric_by_epoch=False
                ),
                checkpoint=dict(
                    type='CheckpointHook', by_epoch=False, interval=2
                ),
            ),
            log_processor=dict(by_epoch=False),
            log_level='INFO',
        )
    )


def build(cfg):
    return Runner.from_cfg(cfg)


def search_hook(runner):
    return next(h for h in runner.hooks if isinstance(h, ArchSearchHook))


def split_state(runner):
    """Weights and architecture of the model, as copies."""
    state = {
        name: p.detach().clone() for name, p in runner.model.named_parameters()
    }
    arch = {
        name: state.pop(f'backbone.{name}') for name in ('alphas', 'betas')
    }
    return state, arch


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def at_start(monkeypatch):
    """What the model was before the first iteration."""
    states = []
    before_train = ArchSearchHook.before_train

    def spy(self, runner):
        before_train(self, runner)
        states.append(split_state(runner))

    monkeypatch.setattr(ArchSearchHook, 'before_train', spy)
    return states


def test_the_architecture_half_does_not_touch_the_weights(tmp_path, at_start):
    cfg = search_config(tmp_path)
    cfg.optim_wrapper.optimizer.update(lr=0.0, weight_decay=0.0)
    runner = build(cfg)
    runner.train()
    (weights, arch), (weights_after, arch_after) = (
        at_start[0],
        split_state(runner),
    )
    assert equal(weights, weights_after)
    assert not torch.equal(arch['alphas'], arch_after['alphas'])
    assert not torch.equal(arch['betas'], arch_after['betas'])


def test_the_weight_half_does_not_touch_the_architecture(tmp_path, at_start):
    cfg = search_config(tmp_path, optimizer=dict(type='Adam', lr=0.0))
    runner = build(cfg)
    runner.train()
    (weights, arch), (weights_after, arch_after) = (
        at_start[0],
        split_state(runner),
    )
    assert equal(arch, arch_after)
    assert not equal(weights, weights_after)


@pytest.mark.parametrize('accumulative_counts', [1, 2])
def test_weights_do_not_depend_on_the_batches_of_part_b(
    tmp_path, monkeypatch, accumulative_counts
):
    """With an architecture that stands still, to the last bit."""

    def weights(change_batch):
        cfg = search_config(tmp_path, optimizer=dict(type='Adam', lr=0.0))
        cfg.optim_wrapper.accumulative_counts = accumulative_counts
        next_batch = ArchSearchHook._next_batch

        def changed(self):
            batch = next_batch(self)
            batch['inputs'] = [change_batch(x) for x in batch['inputs']]
            return batch

        with monkeypatch.context() as patch:
            patch.setattr(ArchSearchHook, '_next_batch', changed)
            runner = build(cfg)
            runner.train()
        return split_state(runner)[0]

    expected = weights(lambda x: x)
    assert equal(expected, weights(lambda x: 255 - x))
    # The same, less trivially: another first iteration.
    assert not equal(expected, weights_of_other_seed(tmp_path))


def weights_of_other_seed(tmp_path):
    cfg = search_config(tmp_path, optimizer=dict(type='Adam', lr=0.0))
    cfg.randomness.seed = 1
    runner = build(cfg)
    runner.train()
    return split_state(runner)[0]


def test_the_step_is_adam_on_the_loss_of_part_b(tmp_path, monkeypatch):
    """Against the gradient of a copy of the model, by ``backward``."""
    compared = []
    step = ArchSearchHook.step

    def checked(self, searched, optim_wrapper, batch):
        model = copy.deepcopy(searched)
        before = [p.clone() for p in model.backbone.arch_parameters()]
        for p in model.backbone.arch_parameters():
            p.requires_grad_(True)
        data = model.data_preprocessor(copy.deepcopy(batch), True)
        loss = sum(
            value
            for name, value in model(**data, mode='loss').items()
            if 'loss' in name
        )
        loss.backward()
        expected = []
        for p, start in zip(model.backbone.arch_parameters(), before):
            gradient = p.grad + 0.001 * start
            # The first step of Adam: lr * g / (|g| + eps)
            expected.append(start - 0.003 * gradient / (gradient.abs() + 1e-8))
        out = step(self, searched, optim_wrapper, batch)
        assert list(out) == ['arch_loss']
        assert torch.equal(out['arch_loss'], loss.detach())
        for p, value in zip(searched.backbone.arch_parameters(), expected):
            torch.testing.assert_close(p.data, value, rtol=1e-4, atol=1e-7)
            assert not p.requires_grad and p.grad is None
            compared.append(p)
        for name, p in searched.named_parameters():
            assert p.grad is None or not p.grad.any(), name
        return out

    monkeypatch.setattr(ArchSearchHook, 'step', checked)
    build(search_config(tmp_path, max_iters=1)).train()
    assert len(compared) == 2


def test_the_halves_see_disjoint_parts(tmp_path, monkeypatch):
    seen = dict(A=set(), B=set())

    def paths(batch):
        return {sample.img_path for sample in batch['data_samples']}

    step = ArchSearchHook.step
    after = ArchSearchHook.after_train_iter

    def on_b(self, model, optim_wrapper, batch):
        seen['B'] |= paths(batch)
        return step(self, model, optim_wrapper, batch)

    def on_a(self, runner, batch_idx, data_batch=None, outputs=None):
        seen['A'] |= paths(data_batch)
        after(self, runner, batch_idx, data_batch, outputs)

    monkeypatch.setattr(ArchSearchHook, 'step', on_b)
    monkeypatch.setattr(ArchSearchHook, 'after_train_iter', on_a)
    build(search_config(tmp_path)).train()
    # Four iterations of two: each half went through its four scenes twice.
    assert len(seen['A']) == len(seen['B']) == 4
    assert not seen['A'] & seen['B']


def test_updates_begin_at_begin(tmp_path, monkeypatch, at_start):
    steps = []
    step = ArchSearchHook.step

    def counted(self, model, optim_wrapper, batch):
        if not steps:
            assert equal(at_start[0][1], split_state(runner)[1])
        steps.append(runner.iter)
        return step(self, model, optim_wrapper, batch)

    monkeypatch.setattr(ArchSearchHook, 'step', counted)
    runner = build(search_config(tmp_path, max_iters=5, begin=3))
    runner.train()
    assert steps == [3, 4]


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

    lines = (log_dir / 'vis_data' / f'{runner.timestamp}.json').read_text()
    scalars = [json.loads(line) for line in lines.splitlines()]
    keys = {'arch_loss', 'arch_lr', 'alpha_entropy', 'beta_entropy'}
    assert [keys <= set(line) for line in scalars] == [False] * 2 + [True] * 3
    assert scalars[-1]['arch_lr'] == 0.003
    assert 2.0 < scalars[-1]['alpha_entropy'] <= 2.0795
    assert scalars[-1]['arch_loss'] != scalars[-1]['loss']


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


def test_a_resumed_search_goes_on_with_state_and_data(tmp_path, monkeypatch):
    """Optimizer and position in part B: the same end, to the last bit."""
    batches = []
    step = ArchSearchHook.step

    def recorded(self, model, optim_wrapper, batch):
        batches.append([s.img_path for s in batch['data_samples']])
        return step(self, model, optim_wrapper, batch)

    monkeypatch.setattr(ArchSearchHook, 'step', recorded)
    straight = build(search_config(tmp_path, max_iters=4))
    straight.train()
    expected = batches[:]

    batches.clear()
    cfg = search_config(tmp_path, max_iters=4)
    cfg.load_from = os.path.join(cfg.work_dir, 'iter_2.pth')
    cfg.resume = True
    resumed = build(cfg)
    resumed.train()
    assert batches == expected[2:]
    for a, b in zip(split_state(straight), split_state(resumed)):
        assert equal(a, b)


def test_a_search_checkpoint_can_be_tested(tmp_path):
    """The hook stays in the config, and builds nothing for it."""
    cfg = search_config(tmp_path, max_iters=2)
    build(cfg).train()
    cfg = search_config(tmp_path)
    cfg.load_from = os.path.join(cfg.work_dir, 'iter_2.pth')
    cfg.test_dataloader = copy.deepcopy(cfg.train_dataloader)
    cfg.test_dataloader.update(
        batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    cfg.test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    cfg.test_cfg = dict(type='TestLoop')
    assert 0 <= build(cfg).test()['mIoU'] <= 100


def sampler_is(**sampler):
    def change(cfg):
        cfg.train_dataloader.sampler = sampler

    return change


def foreign_backbone(cfg):
    cfg.model.backbone = dict(
        type='AutoDeepLab',
        arch='autodeeplab',
        filter_multiplier=2,
        out_indices=(0, 3, 4, 5),
    )
    cfg.model.decode_head.in_channels = [10, 20, 40, 80]


def foreign_checkpoint(cfg):
    file = os.path.join(cfg.work_dir, 'foreign.pth')
    os.makedirs(cfg.work_dir)
    torch.save(dict(state_dict={}, meta=dict(iter=1, epoch=0)), file)
    cfg.load_from, cfg.resume = file, True


@pytest.mark.parametrize(
    'change,sentence',
    [
        (
            sampler_is(type='InfiniteSampler'),
            "InfiniteSampler; set train_dataloader.sampler to dict(type='Spl",
        ),
        (
            sampler_is(type='SplitInfiniteSampler', part='B'),
            'SplitInfiniteSampler of part B',
        ),
        (
            lambda cfg: cfg.custom_hooks[0].update(begin=4),
            'begin is 4, but the search ends after 4 iterations',
        ),
        (
            lambda cfg: cfg.custom_hooks[0].update(cost=dict(weight=1)),
            'cost.target is None, but must be a positive number',
        ),
        (
            lambda cfg: cfg.train_dataloader.dataset.update(num_images=1),
            'leaves a part without an image',
        ),
        (foreign_backbone, 'found AutoDeepLab; use AutoDeepLabSupernet'),
        (foreign_checkpoint, "it has no entry 'arch_search'"),
    ],
)
def test_one_sentence(tmp_path, change, sentence):
    cfg = search_config(tmp_path)
    change(cfg)
    with pytest.raises(ValueError) as error:
        build(cfg).train()
    message = str(error.value)
    assert sentence in message and '\n' not in message
    assert not (tmp_path / 'work' / 'architecture.json').exists()
