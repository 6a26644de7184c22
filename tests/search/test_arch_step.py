"""The architecture step without a runner, and what it reads."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from small_search import batch, segmentor

from mmseg_autodeeplab.search.gradient import ArchSearchHook
from mmseg_autodeeplab.search.gradient.cost_term import CostTerm

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
