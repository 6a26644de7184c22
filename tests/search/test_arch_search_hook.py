"""The search through MMEngine's own runner, on generated scenes."""

import copy
import os

import pytest
import torch
from mmengine.hooks import Hook
from small_search import (
    build,
    equal,
    paths,
    search_config,
    search_hook,
    split_state,
)

from mmseg_autodeeplab.search.gradient import ArchStep

pytestmark = pytest.mark.run


class Start(Hook):
    """What the model was before the first iteration."""

    def before_train(self, runner):
        self.weights, self.arch = split_state(runner)


def moved(cfg):
    """Whether weights and architecture are others after a search."""
    runner, start = build(cfg), Start()
    runner.register_hook(start)
    runner.train()
    weights, arch = split_state(runner)
    return not equal(weights, start.weights), {
        name: not torch.equal(arch[name], start.arch[name]) for name in arch
    }


def test_the_architecture_step_does_not_touch_the_weights(tmp_path):
    cfg = search_config(tmp_path)
    cfg.optim_wrapper.optimizer.update(lr=0.0, weight_decay=0.0)
    assert moved(cfg) == (False, dict(alphas=True, betas=True))


def test_the_weight_step_does_not_touch_the_architecture(tmp_path):
    cfg = search_config(tmp_path, optimizer=dict(type='Adam', lr=0.0))
    assert moved(cfg) == (True, dict(alphas=False, betas=False))


@pytest.mark.parametrize('accumulative_counts', [1, 2])
def test_weights_do_not_depend_on_the_batches_of_part_b(
    tmp_path, monkeypatch, accumulative_counts
):
    """With an architecture that stands still, to the last bit."""

    def weights(change_batch, seed=0):
        cfg = search_config(tmp_path, optimizer=dict(type='Adam', lr=0.0))
        cfg.optim_wrapper.accumulative_counts = accumulative_counts
        cfg.randomness.seed = seed
        step = ArchStep.step

        def changed(self, batch):
            batch['inputs'] = [change_batch(x) for x in batch['inputs']]
            return step(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(ArchStep, 'step', changed)
            runner = build(cfg)
            runner.train()
        return split_state(runner)[0]

    expected = weights(lambda x: x)
    assert equal(expected, weights(lambda x: 255 - x))
    assert not equal(expected, weights(lambda x: x, seed=1))


class PartA(Hook):
    """What the weights are trained on."""

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(paths(data_batch))


@pytest.fixture
def part_b(monkeypatch):
    """What each architecture step is given, in order."""
    seen = []
    step = ArchStep.step

    def recorded(self, batch):
        seen.append(copy.deepcopy(batch))
        return step(self, batch)

    monkeypatch.setattr(ArchStep, 'step', recorded)
    return seen


@pytest.mark.parametrize(
    'loop', ['SeededIterBasedTrainLoop', 'IterBasedTrainLoop']
)
def test_the_steps_see_disjoint_parts(tmp_path, part_b, loop):
    """In our loop, and in MMEngine's."""
    cfg = search_config(tmp_path)
    cfg.train_cfg.type = loop
    runner, part_a = build(cfg), PartA()
    runner.register_hook(part_a)
    runner.train()
    # Four iterations of two: each step went through its four scenes twice.
    in_a = {path for batch in part_a.seen for path in batch}
    in_b = {path for batch in part_b for path in paths(batch)}
    assert len(in_a) == len(in_b) == 4
    assert not in_a & in_b
    assert search_hook(runner).stream.position == 8


def test_the_parts_are_not_walked_through_in_step(tmp_path, part_b):
    """Each part has four scenes, and is gone through twice."""
    runner, part_a = build(search_config(tmp_path)), PartA()
    runner.register_hook(part_a)
    runner.train()
    walks = []
    for batches in (part_a.seen, map(paths, part_b)):
        walk = sum(batches, [])
        walks.append([sorted(set(walk)).index(path) for path in walk])
    assert set(walks[0]) == set(walks[1]) == set(range(4))
    assert walks[0] != walks[1]


RAMPED = [dict(type='EntropyTerm', alpha_weight=9, beta_weight=9)]


def test_updates_begin_at_begin(tmp_path, monkeypatch):
    runner = build(search_config(tmp_path, max_iters=5, begin=3, terms=RAMPED))
    start, steps = Start(), []
    runner.register_hook(start)
    step = ArchStep.step

    def counted(self, batch):
        if not steps:
            assert equal(start.arch, split_state(runner)[1])
        for term in search_hook(runner).terms:
            steps.append((runner.iter, term.progress))
        return step(self, batch)

    monkeypatch.setattr(ArchStep, 'step', counted)
    runner.train()
    assert steps == [(3, 0), (4, 0.5)]
    assert search_hook(runner).stream.position == 4


def resume(tmp_path, file, max_iters=4, **hook):
    cfg = search_config(tmp_path, max_iters=max_iters, **hook)
    cfg.load_from, cfg.resume = str(file), True
    runner = build(cfg)
    runner.train()
    return runner


def test_a_resumed_search_goes_on_with_state_and_data(tmp_path, part_b):
    """Optimizer, position in part B and ramp: the same, to the last bit."""
    straight = build(search_config(tmp_path, max_iters=4, terms=RAMPED))
    straight.train()
    expected = [x for batch in part_b[2:] for x in batch['inputs']]
    part_b.clear()
    resumed = resume(tmp_path, tmp_path / 'work' / 'iter_2.pth', terms=RAMPED)
    found = [x for batch in part_b for x in batch['inputs']]
    assert len(found) == len(expected) == 4
    assert all(map(torch.equal, found, expected))
    for a, b in zip(split_state(straight), split_state(resumed)):
        assert equal(a, b)


@pytest.fixture
def two_iterations(tmp_path):
    """A checkpoint after two iterations, and how to change its state."""
    build(search_config(tmp_path, max_iters=2)).train()
    file = tmp_path / 'work' / 'iter_2.pth'

    def change(**values):
        checkpoint = torch.load(file, weights_only=False)
        checkpoint['arch_search'].update(values)
        torch.save(checkpoint, tmp_path / 'changed.pth')
        return tmp_path / 'changed.pth'

    return change


def test_the_version_before_is_resumed_with_one_warning(
    tmp_path, two_iterations, part_b
):
    checkpoint = torch.load(two_iterations(), weights_only=False)
    state = checkpoint['arch_search']
    assert state['version'] == 3 and state.pop('position') == 4
    state.update(version=2, num_batches=1)
    torch.save(checkpoint, tmp_path / 'old.pth')
    part_b.clear()
    runner = resume(tmp_path, tmp_path / 'old.pth')
    # From the third sample on, of which there are four in part B.
    assert search_hook(runner).stream.position == 2 + 2 * 2
    log = os.path.join(runner.log_dir, f'{runner.timestamp}.log')
    with open(log) as file:
        lines = [line for line in file if 'images of part B that co' in line]
    assert len(lines) == 1 and 'WARNING - The checkpoint is of' in lines[0]


@pytest.mark.parametrize('version', [1, 4])
def test_other_versions_are_refused(tmp_path, two_iterations, version):
    file = two_iterations(version=version)
    with pytest.raises(ValueError) as error:
        resume(tmp_path, file)
    assert str(error.value) == (
        f'The search state in the checkpoint has version {version}, but this '
        'version of mmseg_autodeeplab reads versions 2 and 3; resume with the '
        'version that wrote it.'
    )


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
            lambda cfg: cfg.train_dataloader.dataset.update(num_images=1),
            'leaves a part without an image',
        ),
        (
            lambda cfg: cfg.custom_hooks[0].update(score='bias'),
            "ArchSearchHook.score is 'bias', but must be 'probability', "
            "'lift', 'inflow', or one with an end",
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
