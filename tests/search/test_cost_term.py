"""The cost term alone: value, gradient, where it leads, what it refuses."""

import numpy as np
import pytest
import torch
from torch import nn

from mmseg_autodeeplab.arch import num_edges
from mmseg_autodeeplab.search.gradient import ArchSearchHook
from mmseg_autodeeplab.search.gradient.cost_term import CostTerm

SMALL = dict(shape=(65, 129), filter_multiplier=4, stem_channels=8)


def parameters(num_blocks=2, num_layers=5, scale=1.0, dtype=torch.float64):
    rng = np.random.RandomState(0)
    return [
        nn.Parameter(torch.tensor(scale * rng.randn(*shape), dtype=dtype))
        for shape in [(num_edges(num_blocks), 8), (num_layers, 4, 3)]
    ]


def arrays(params):
    return [p.detach().numpy() for p in params]


@pytest.mark.parametrize('quantity', ['multiply_adds', 'parameters'])
@pytest.mark.parametrize(
    'dtype,rtol', [(torch.float64, 1e-12), (torch.float32, 1e-5)]
)
def test_the_term_is_the_formula(quantity, dtype, rtol):
    """Tensors give what arrays give, at the size of the paper."""
    params = parameters(5, 12, dtype=dtype)
    term = CostTerm(dict(target=3e7, weight=0.5, quantity=quantity))
    term.prepare(*params)
    expected = term.expected(*arrays(params))
    value = term(*params)
    assert value.dtype == dtype
    assert value.item() == pytest.approx(
        0.5 * np.log(expected / 3e7) ** 2, rel=rtol
    )


@pytest.mark.parametrize('quantity', ['multiply_adds', 'parameters'])
def test_gradients_are_finite_differences(quantity):
    params = parameters()
    term = CostTerm(dict(target=1e5, quantity=quantity, **SMALL))
    term.prepare(*params)
    assert torch.autograd.gradcheck(term, params)
    term(*params).backward()
    assert (params[0].grad.abs() > 0).all()
    # What does not exist is left alone; all else has a say.
    exists = term._transitions
    assert (params[1].grad[~exists] == 0).all()
    assert (params[1].grad[exists].abs() > 0).all()


@pytest.mark.parametrize('quantity', ['multiply_adds', 'parameters'])
@pytest.mark.parametrize('factor', [0.7, 1.5])
def test_it_leads_to_the_target_from_both_sides(factor, quantity):
    params = parameters(scale=1e-3, dtype=torch.float32)
    cfg = dict(quantity=quantity, weight=10.0, **SMALL)
    probe = CostTerm(dict(target=1.0, **cfg))
    probe.prepare(*params)
    start = probe.expected(*arrays(params))
    term = CostTerm(dict(target=factor * start, **cfg))
    term.prepare(*params)
    optimizer = torch.optim.Adam(params, lr=0.03)
    costs = [start]
    for _ in range(80):
        optimizer.zero_grad()
        term(*params).backward()
        optimizer.step()
        costs.append(term.expected(*arrays(params)))
    # The first steps go straight there.
    early = np.diff(costs[:8])
    assert (early < 0).all() if factor < 1 else (early > 0).all()
    assert costs[-1] == pytest.approx(factor * start, rel=0.02)


@pytest.mark.parametrize(
    'cost,sentence',
    [
        (100e9, 'cost is 100000000000.0, but must be None or a dict'),
        (dict(), 'cost.target is None, but must be a positive number'),
        (dict(target=0), 'cost.target is 0, but must be a positive number'),
        (dict(target=-1e9), 'cost.target is -1000000000.0'),
        (dict(target=float('nan')), 'cost.target is nan'),
        (dict(target='100G'), "cost.target is '100G'"),
        (dict(target=True), 'cost.target is True'),
        (dict(target=1, weight=0), 'cost.weight is 0, but must be a positive'),
        (dict(target=1, weight=float('inf')), 'cost.weight is inf'),
        (dict(target=1, quantity='flops'), "'flops', but must be 'multiply_"),
        (dict(target=1, shape=(1025,)), 'cost.shape is (1025,), but must be'),
        (dict(target=1, shape=513), 'the height and width of an image'),
        (dict(target=1, filter_multiplier=2.5), 'filter_multiplier is 2.5'),
        (dict(target=1, wieght=1), "no key 'wieght'; it may have target, we"),
    ],
)
def test_one_sentence(cost, sentence):
    with pytest.raises(ValueError) as error:
        ArchSearchHook(cost=cost)
    message = str(error.value)
    assert sentence in message and '\n' not in message
    assert message.startswith('ArchSearchHook.cost') and message[-1] == '.'
