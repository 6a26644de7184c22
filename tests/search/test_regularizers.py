"""Terms on sharpness: value, gradient, where they lead, what is refused."""

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from small_search import batch, segmentor
from torch import nn

from mmseg_autodeeplab.arch import (
    beta_probabilities,
    num_edges,
    transition_mask,
)
from mmseg_autodeeplab.search.gradient import (
    ArchSearchHook,
    ArchStep,
    EntropyTerm,
    LogSumExpTerm,
)

L = 5


def parameters(dtype=torch.float64, scale=1.0):
    rng = np.random.RandomState(0)
    return [
        nn.Parameter(torch.tensor(scale * rng.randn(*shape), dtype=dtype))
        for shape in [(num_edges(2), 8), (L, 4, 3)]
    ]


def prepared(term, params):
    term.prepare(*params)
    return term


def softmax(values):
    return np.exp(values) / np.exp(values).sum()


def choices(params):
    """Indices of what sums to 1: each edge, and the ways out of a source."""
    alphas, betas = [p.detach().numpy() for p in params]
    edges = [np.s_[edge] for edge in range(len(alphas))]
    mask = transition_mask(L)
    sources = [
        (*source, mask[source])
        for source in np.ndindex(mask.shape[:2])
        if mask[source].any()
    ]
    return (alphas, edges), (betas, sources)


def test_entropies_and_their_gradients():
    """Written out: d H / d logit = -p (log p + H)."""
    params = parameters()
    term = prepared(EntropyTerm(0.5, 3), params)
    expected, gradients = 0, []
    for weight, (values, groups) in zip((0.5, 3), choices(params)):
        gradient = np.zeros_like(values)
        for group in groups:
            p = softmax(values[group])
            entropy = -(p * np.log(p)).sum()
            expected += weight * entropy / len(groups)
            gradient[group] -= weight * p * (np.log(p) + entropy) / len(groups)
        gradients.append(gradient)
    value = term(*params)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    value.backward()
    # With it: what does not exist has none, not even one that is no number.
    for p, gradient in zip(params, gradients):
        np.testing.assert_allclose(p.grad.numpy(), gradient, atol=1e-14)
    assert (params[1].grad == 0).sum() == (gradients[1] == 0).sum() > L
    assert torch.autograd.gradcheck(term, params)


def test_entropies_of_what_enters_a_node():
    """Over nodes that several scales enter."""
    params = parameters()
    probabilities = beta_probabilities(params[1].detach().numpy())
    entropies = []
    for layer in range(L):
        for level in range(4):
            ways = [
                probabilities[layer, source, level - source + 1]
                * (2 if source in (0, 3) else 3)
                for source in range(4)
                if abs(level - source) <= 1 and source <= layer
            ]
            if len(ways) > 1:
                q = np.array(ways) / sum(ways)
                entropies.append(-(q * np.log(q)).sum())
    # Two of layer 1, three of layer 2, and four of each later one.
    assert len(entropies) == 2 + 3 + 4 + 4
    term = prepared(EntropyTerm(0, 3, inflow=True), params)
    value = term(*params)
    assert value.item() == pytest.approx(3 * np.mean(entropies), rel=1e-12)
    value.backward()
    missing = ~torch.from_numpy(transition_mask(L))
    assert (params[1].grad[missing] == 0).all()
    assert torch.autograd.gradcheck(term, params)


def test_sharpening_prefers_no_scale():
    """Where no beta has moved, none is moved."""
    alphas, betas = parameters()
    betas.data.zero_()
    term = prepared(EntropyTerm(0, 1, inflow=True), (alphas, betas))
    term(alphas, betas).backward()
    assert betas.grad.abs().max() < 1e-12


def test_log_sum_exp_and_its_gradient():
    params = parameters()
    term = LogSumExpTerm(3)
    alphas = params[0].detach().numpy()
    sums = np.log(np.exp(alphas).sum(1))
    value = term(*params)
    assert value.item() == pytest.approx(3 * sums.mean(), rel=1e-12)
    value.backward()
    expected = [3 * softmax(edge) / len(alphas) for edge in alphas]
    np.testing.assert_allclose(params[0].grad.numpy(), expected, rtol=1e-12)
    assert params[1].grad is None
    assert torch.autograd.gradcheck(lambda x: term(x, params[1]), params[:1])
    measures = term.measures(alphas.astype(np.float32), None)
    assert measures == dict(alpha_logsumexp=pytest.approx(sums.mean()))


@pytest.mark.parametrize(
    'term',
    [
        EntropyTerm(1e6, 1e6),
        EntropyTerm(1e6, 1e6, inflow=True),
        LogSumExpTerm(1),
    ],
)
def test_the_sharpest_choice_is_no_nan(term):
    """Where a probability is 0 in single precision."""
    params = parameters(torch.float32, scale=1e3)
    value = prepared(term, params)(*params) + 0 * params[1].sum()
    value.backward()
    for found in (value, *(p.grad for p in params)):
        assert found.isfinite().all()


@pytest.mark.parametrize(
    'ramp,shares',
    [
        ((0, 1), [0, 0.25, 0.5, 0.75, 1]),
        ([0.25, 0.75], [0, 0, 0.5, 1, 1]),
    ],
)
@pytest.mark.parametrize('term', [EntropyTerm, LogSumExpTerm])
def test_the_ramp(term, ramp, shares):
    params = parameters()
    weights = [2] if term is LogSumExpTerm else [2, 2]
    term = prepared(term(*weights, ramp=ramp), params)
    # Where nobody tells the progress, all of it is there.
    full = term(*params).item()
    for progress, share in zip([0, 0.25, 0.5, 0.75, 1], shares):
        term.progress = progress
        assert term(*params).item() == pytest.approx(share * full)


def step_with(*terms, progress=1.0, learn=False, **optimizer):
    """The step of a search, on images of which every pixel is ignored."""
    model = segmentor()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    optimizer = dict(dict(type='SGD', lr=1.0), **optimizer)
    arch_step = ArchStep(model, wrapper, optimizer, terms)
    for term in terms:
        term.progress = progress
    images = batch()
    if not learn:
        for sample in images['data_samples']:
            sample.gt_sem_seg.data.fill_(255)
    return arch_step, lambda: arch_step.step(images)


def test_the_entropies_alone_fall():
    arch_step, step = step_with(EntropyTerm(1, 1), type='Adam', lr=0.02)
    entropies = []
    for _ in range(8):
        measures = arch_step.measures()
        entropies.append(list(measures.values()))
        losses = step()
        assert list(losses) == ['arch_loss', 'arch_entropy_loss']
        assert losses['arch_loss'] == 0
        # What the log has is the term.
        assert losses['arch_entropy_loss'].item() == pytest.approx(
            sum(measures.values()), rel=1e-6
        )
    assert measures.keys() == {'alpha_entropy', 'beta_entropy'}
    assert (np.diff(entropies, axis=0) < 0).all()


def test_log_sum_exp_alone_pulls_the_strongest_most():
    arch_step, step = step_with(LogSumExpTerm(20))
    alphas, betas = arch_step.params
    alphas.data = torch.randn_like(alphas)
    before, betas = alphas.clone(), betas.clone()
    start = arch_step.measures()
    losses = step()
    assert list(losses) == ['arch_loss', 'arch_logsumexp_loss']
    fall = before - alphas
    assert (fall > 0).all()
    assert torch.equal(fall.argsort(), before.argsort())
    assert torch.equal(arch_step.params[1], betas)
    end = arch_step.measures()
    assert end['alpha_entropy'] > start['alpha_entropy']
    assert end['alpha_logsumexp'] < start['alpha_logsumexp']


def test_nothing_is_added_before_the_ramp():
    """To the last bit, in a step that learns."""
    terms = EntropyTerm(1e3, 1e3), LogSumExpTerm(1e3)
    ends = []
    for used, progress in (((), 0), (terms, 0.0), (terms, 0.1)):
        arch_step, step = step_with(*used, progress=progress, learn=True)
        step()
        ends.append(arch_step.params)
    assert all(map(torch.equal, ends[0], ends[1]))
    assert not any(map(torch.equal, ends[0], ends[2]))


def entropy(**changes):
    return dict(dict(alpha_weight=1, beta_weight=0), **changes)


@pytest.mark.parametrize(
    'name,arguments,sentence',
    [
        ('EntropyTerm', entropy(alpha_weight=-1), 'Term.alpha_weight is -1, '),
        ('EntropyTerm', entropy(beta_weight='1'), 'a number from 0 on'),
        ('EntropyTerm', entropy(ramp=(0.5, 0.5)), 'ramp is (0.5, 0.5), but m'),
        ('EntropyTerm', entropy(ramp=(0, 1.5)), 'ramp is (0, 1.5), but must'),
        ('EntropyTerm', entropy(ramp=(-0.1, 1)), 'with 0 <= begin < end <= 1'),
        ('EntropyTerm', entropy(ramp=1), 'EntropyTerm.ramp is 1, but must be'),
        ('EntropyTerm', entropy(ramp='01'), "EntropyTerm.ramp is '01'"),
        ('EntropyTerm', {}, "'alpha_weight' and 'beta_weight'; it takes alph"),
        ('LogSumExpTerm', dict(weight=float('nan')), 'Term.weight is nan, '),
        ('LogSumExpTerm', dict(weight=True), 'LogSumExpTerm.weight is True, '),
        ('LogSumExpTerm', dict(weight=1, ramp=[0]), 'Term.ramp is [0], but '),
        ('LogSumExpTerm', {}, "'weight'; it takes weight, ramp."),
    ],
)
def test_one_sentence(name, arguments, sentence):
    with pytest.raises(ValueError) as error:
        ArchSearchHook(terms=[dict(type=name, **arguments)])
    message = str(error.value)
    assert sentence in message and '\n' not in message
    assert message[-1] == '.'
