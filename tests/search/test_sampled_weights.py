"""Weight steps that train single random networks."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from small_search import build, search_config, segmentor

from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search.gradient import SampledWeightsHook

pytestmark = pytest.mark.run


class Spy(Hook):
    """See what the weight step and the architecture step work with."""

    def __init__(self, priority):
        self.priority, self.alphas, self.nodes = priority, [], []
        self.buffers = []

    def _see(self, runner):
        backbone = runner.model.backbone
        self.alphas.append(backbone.alphas.detach().softmax(-1))
        self.nodes.append(backbone.transitions.clone())
        buffers = dict(runner.model.named_buffers())
        del buffers['backbone.transitions']
        self.buffers.append({n: b.clone() for n, b in buffers.items()})

    def before_train_iter(self, runner, *args, **kwargs):
        if self.priority == 'LOWEST':
            self._see(runner)

    def after_train_iter(self, runner, *args, **kwargs):
        # Between both: what ArchSearchHook is about to see.
        if self.priority != 'LOWEST':
            self._see(runner)


def search(tmp_path, name, *hooks, resume_from=None, loop=None):
    cfg = search_config(tmp_path, max_iters=5, begin=1)
    cfg.train_cfg.type = loop or cfg.train_cfg.type
    cfg.work_dir = str(tmp_path / name)
    cfg.custom_hooks += hooks
    if resume_from:
        cfg.update(resume=True, load_from=str(resume_from))
    runner = build(cfg)
    spies = Spy('LOWEST'), Spy(35)  # behind HIGH, before ABOVE_NORMAL
    for spy in spies:
        runner.register_hook(spy)
    runner.train()
    return (*spies, runner.model.state_dict())


def test_weights_see_one_network_and_the_architecture_all(tmp_path):
    hook = dict(type='SampledWeightsHook', share=1)
    at_weights, at_arch, state = search(tmp_path, 'sampled', hook)
    for alphas in at_weights.alphas:
        assert torch.equal(alphas.max(-1).values, torch.ones(len(alphas)))
    for alphas in at_arch.alphas:
        assert (alphas < 0.2).all()
    # One way into each layer, another network each time.
    assert {int(nodes.sum()) for nodes in at_weights.nodes} == {
        len(at_weights.nodes[0])
    }
    assert len({str(nodes) for nodes in at_weights.nodes}) > 1
    assert all(torch.equal(nodes, at_arch.nodes[0]) for nodes in at_arch.nodes)
    assert int(at_arch.nodes[0].sum()) > len(at_arch.nodes[0])


@pytest.mark.parametrize('share', [0.6, 1])
def test_only_relaxed_steps_move_the_running_statistics(tmp_path, share):
    hook = dict(type='SampledWeightsHook', share=share)
    at_weights, at_arch, _ = search(tmp_path, 'sampled', hook)
    kinds = set()
    for before, after, alphas in zip(
        at_weights.buffers, at_arch.buffers, at_weights.alphas
    ):
        is_sampled = bool((alphas.max(-1).values == 1).all())
        kinds.add(is_sampled)
        moved = {
            name.rpartition('.')[2]
            for name, value in before.items()
            if not torch.equal(value, after[name])
        }
        statistics = {'running_mean', 'running_var', 'num_batches_tracked'}
        assert moved == (set() if is_sampled else statistics)
    assert kinds == ({True} if share == 1 else {True, False})


def test_no_share_is_the_search_without_it(tmp_path):
    hook = dict(type='SampledWeightsHook', share=0)
    *_, state = search(tmp_path, 'none', hook)
    *_, expected = search(tmp_path, 'plain')
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_a_resumed_search_draws_the_same(tmp_path):
    hook = dict(type='SampledWeightsHook', share=0.6)
    *_, expected = search(tmp_path, 'whole', hook)
    checkpoint = tmp_path / 'whole' / 'iter_2.pth'
    *_, state = search(tmp_path, 'resumed', hook, resume_from=checkpoint)
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_every_loop_draws_the_same(tmp_path):
    hook = dict(type='SampledWeightsHook', share=0.6)
    expected, *_ = search(tmp_path, 'ours', hook)
    found, *_ = search(tmp_path, 'stock', hook, loop='IterBasedTrainLoop')
    assert len(found.nodes) == len(expected.nodes) == 5
    assert all(map(torch.equal, found.nodes, expected.nodes))


def work(rank):
    """What is drawn where processes have seeds of their own."""
    hook = SampledWeightsHook(share=1)
    runner = SimpleNamespace(model=segmentor(), seed=3 + rank, iter=0)
    hook.before_train(runner)
    hook.before_train_iter(runner)
    return runner.model.backbone.transitions.tolist()


def test_all_processes_draw_the_same(two_ranks):
    first, second = two_ranks.run(work)
    assert first == second


@pytest.mark.parametrize('share', [-0.1, 1.1, 'half', None])
def test_what_is_no_share(share):
    with pytest.raises(UserError, match='share is .*from 0 to 1'):
        SampledWeightsHook(share)
