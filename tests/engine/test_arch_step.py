"""The architecture step without a runner, and what it reads."""

import copy
import itertools
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from small_search import batch, segmentor

from mmseg_autodeeplab.engine import ArchSearchHook
from mmseg_autodeeplab.engine.hooks.cost_term import CostTerm

COST = dict(
    target=1e5,
    weight=3.0,
    shape=(64, 64),
    filter_multiplier=2,
    stem_channels=4,
)


def optim_wrapper(model):
    weights = [p for p in model.parameters() if p.requires_grad]
    return OptimWrapper(torch.optim.SGD(weights, lr=0.1))


def test_the_cost_joins_the_gradient():
    """SGD with lr 1 moves by the gradient of the sum, to the point."""
    moved = []
    for cost in (None, COST):
        model = segmentor()
        before = [p.detach().clone() for p in model.backbone.arch_parameters()]
        hook = ArchSearchHook(optimizer=dict(type='SGD', lr=1.0), cost=cost)
        hook.prepare(model, optim_wrapper(model))
        losses = hook.step(model, optim_wrapper(model), batch())
        after = model.backbone.arch_parameters()
        moved.append([a - b for a, b in zip(before, after)])
        assert all(not value.requires_grad for value in losses.values())
    term = CostTerm(COST)
    params = [p.clone().requires_grad_() for p in before]
    term.prepare(*params)
    expected = term(*params)
    assert losses['arch_cost_loss'].item() == pytest.approx(expected.item())
    for alone, both, gradient in zip(
        *moved, torch.autograd.grad(expected, params)
    ):
        assert gradient.abs().max() > 1e-2
        torch.testing.assert_close(
            both - alone, gradient, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize('cost', [None, COST])
def test_nothing_is_read_between_two_lines(cost):
    """Tensors of the meta device have no values that could be read.

    Adam counts its steps on the CPU.
    """
    model = segmentor().to('meta')
    wrapper = optim_wrapper(model)
    hook = ArchSearchHook(cost=cost)
    hook.prepare(model, wrapper)
    hook._batches = (copy.deepcopy(b) for b in itertools.repeat(batch()))
    hook._num_batches = 0
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=wrapper,
        hooks=[hook, LoggerHook(interval=4)],
        train_dataloader=range(100),
        message_hub=MessageHub.get_instance('nothing_is_read'),
        max_iters=100,
    )
    for runner.iter in range(3):
        hook.after_train_iter(runner, runner.iter)
    assert hook._num_summed == 3
    assert not runner.message_hub.log_scalars
    # No graph is kept from one iteration to the next.
    assert all(s.grad_fn is None for s in hook._sums.values())
    # The test can fail: here is the line.
    runner.iter = 3
    with pytest.raises((RuntimeError, NotImplementedError), match='meta'):
        hook.after_train_iter(runner, runner.iter)
