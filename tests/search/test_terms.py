"""Terms alone: value, gradient, where they lead, what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from mmseg_autodeeplab.arch import num_edges, transition_mask
from mmseg_autodeeplab.search.gradient import (
    ArchSearchHook,
    ArchTerm,
    CostTerm,
)

SMALL = dict(shape=(65, 129), filter_multiplier=4, stem_channels=8)


def parameters(num_blocks=2, num_layers=5, scale=1.0, dtype=torch.float64):
    rng = np.random.RandomState(0)
    return [
        nn.Parameter(torch.tensor(scale * rng.randn(*shape), dtype=dtype))
        for shape in [(num_edges(num_blocks), 8), (num_layers, 4, 3)]
    ]


def expected_cost(term, params):
    arrays = [p.detach().numpy() for p in params]
    return term.measures(*arrays)['expected_cost']


@pytest.mark.parametrize('quantity', ['multiply_adds', 'parameters'])
@pytest.mark.parametrize(
    'dtype,rtol', [(torch.float64, 1e-12), (torch.float32, 1e-5)]
)
def test_the_term_is_the_formula(quantity, dtype, rtol):
    """Tensors give what arrays give, at the size of the paper."""
    params = parameters(5, 12, dtype=dtype)
    term = CostTerm(target=3e7, weight=0.5, quantity=quantity)
    term.prepare(*params)
    expected = expected_cost(term, params)
    value = term(*params)
    assert value.dtype == dtype
    assert value.item() == pytest.approx(
        0.5 * np.log(expected / 3e7) ** 2, rel=rtol
    )


@pytest.mark.parametrize('quantity', ['multiply_adds', 'parameters'])
def test_gradients_are_finite_differences(quantity):
    params = parameters()
    term = CostTerm(target=1e5, quantity=quantity, **SMALL)
    term.prepare(*params)
    assert torch.autograd.gradcheck(term, params)
    term(*params).backward()
    assert (params[0].grad.abs() > 0).all()
    # What does not exist is left alone; all else has a say.
    exists = torch.tensor(transition_mask(5))
    assert (params[1].grad[~exists] == 0).all()
    assert (params[1].grad[exists].abs() > 0).all()


@pytest.mark.parametrize('quantity', ['multiply_adds', 'parameters'])
@pytest.mark.parametrize('factor', [0.7, 1.5])
def test_it_leads_to_the_target_from_both_sides(factor, quantity):
    params = parameters(scale=1e-3, dtype=torch.float32)
    cfg = dict(quantity=quantity, weight=10.0, **SMALL)
    probe = CostTerm(target=1.0, **cfg)
    probe.prepare(*params)
    start = expected_cost(probe, params)
    term = CostTerm(target=factor * start, **cfg)
    term.prepare(*params)
    optimizer = torch.optim.Adam(params, lr=0.03)
    costs = [start]
    for _ in range(80):
        optimizer.zero_grad()
        term(*params).backward()
        optimizer.step()
        costs.append(expected_cost(term, params))
    # The first steps go straight there.
    early = np.diff(costs[:8])
    assert (early < 0).all() if factor < 1 else (early > 0).all()
    assert costs[-1] == pytest.approx(factor * start, rel=0.02)


def cost(**changes):
    return [dict(type='CostTerm', **dict(dict(target=1), **changes))]


class NamelessTerm(ArchTerm):
    pass


@pytest.mark.parametrize(
    'terms,sentence',
    [
        (cost(target=None), 'target is None, but must be a positive number'),
        (cost(target=0), 'CostTerm.target is 0, but must be a positive num'),
        (cost(target=-1e9), 'CostTerm.target is -1000000000.0'),
        (cost(target=float('nan')), 'CostTerm.target is nan'),
        (cost(target='100G'), "CostTerm.target is '100G'"),
        (cost(target=True), 'CostTerm.target is True'),
        (cost(weight=0), 'CostTerm.weight is 0, but must be a positive'),
        (cost(weight=float('inf')), 'CostTerm.weight is inf'),
        (cost(quantity='flops'), "'flops', but must be 'multiply_"),
        (cost(shape=(1025,)), 'CostTerm.shape is (1025,), but must be'),
        (cost(shape=513), 'the height and width of an image'),
        (cost(filter_multiplier=2.5), 'filter_multiplier is 2.5'),
        (cost(wieght=1), "'wieght'; it takes target, weight, quantity"),
        (
            [dict(type='CostTerm')],
            "missing 1 required positional argument: 'target';",
        ),
        (cost() + cost(), "has the name 'arch_cost_loss', but must have one"),
        ([dict(type=NamelessTerm)], 'NamelessTerm in ArchSearchHook.terms'),
        ([dict(type='CrossEntropyLos')], 'an ArchTerm that is registered'),
        ([dict(type=dict)], 'an ArchTerm that is registered'),
        ([100e9], 'has 100000000000.0, but must have dicts'),
        (dict(type='CostTerm'), "is {'type': 'CostTerm'}, but must be a list"),
    ],
)
def test_terms_that_are_refused(terms, sentence):
    check_sentence(sentence, terms=terms)


@pytest.mark.parametrize(
    'cost_,terms,sentence',
    [
        (100e9, (), 'cost is 100000000000.0, but must be None or a dict'),
        (dict(), (), "missing 1 required positional argument: 'target'"),
        (dict(target=0), (), 'CostTerm.target is 0'),
        (dict(target=1), cost(), 'ArchSearchHook has terms and cost, but'),
    ],
)
def test_the_old_spelling_is_refused_as_well(cost_, terms, sentence):
    check_sentence(sentence, cost=cost_, terms=terms)


def check_sentence(sentence, **kwargs):
    with pytest.raises(ValueError) as error:
        ArchSearchHook(**kwargs)
    message = str(error.value)
    assert sentence in message and '\n' not in message
    assert message[-1] == '.'


def test_the_old_spelling_is_a_cost_term():
    params = parameters()
    values = []
    cfg = dict(target=1e5, weight=3.0, quantity='parameters', **SMALL)
    for hook in (
        ArchSearchHook(cost=cfg),
        ArchSearchHook(terms=[dict(type='CostTerm', **cfg)]),
    ):
        (term,) = hook.terms
        term.prepare(*params)
        values.append((type(term), term.name, term(*params).item()))
    assert values[0] == values[1]
    assert values[0][:2] == (CostTerm, 'arch_cost_loss')
    assert ArchSearchHook().terms == []
