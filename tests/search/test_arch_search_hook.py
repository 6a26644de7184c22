"""The search through MMEngine's own runner, on generated scenes."""

import copy
import os

import pytest
import torch
from small_search import build, equal, search_config, split_state

from mmseg_autodeeplab.search.gradient import ArchSearchHook


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
