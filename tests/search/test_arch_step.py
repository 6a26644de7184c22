"""The architecture step without a runner, and without processes."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmseg.registry import MODELS
from small_search import batch, model_config, segmentor

from mmseg_autodeeplab.cli.benchmark import random_batch
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search.gradient import (
    ArchStep,
    CostTerm,
    architecture_of,
)

COST = dict(
    target=1e5,
    weight=3.0,
    shape=(64, 64),
    filter_multiplier=2,
    stem_channels=4,
)


def prepared(model=None, **kwargs):
    model = model or segmentor()
    weights = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(torch.optim.SGD(weights, lr=0.1))
    return model, ArchStep(model, wrapper, **kwargs)


def test_the_step_is_adam_on_the_loss_of_the_batch():
    """Against the gradient of a copy of the model, by ``backward``."""
    model, arch_step = prepared()
    twin = copy.deepcopy(model)
    params = twin.backbone.arch_parameters()
    before = [p.clone() for p in params]
    for p in params:
        p.requires_grad_(True)
    data = twin.data_preprocessor(batch(), True)
    loss = twin(**data, mode='loss')['decode.loss_ce']
    loss.backward()

    losses = arch_step.step(batch())
    assert list(losses) == ['arch_loss']
    assert torch.equal(losses['arch_loss'], loss.detach())
    for p, start, found in zip(params, before, arch_step.params):
        gradient = p.grad + 0.001 * start
        # The first step of Adam: lr * g / (|g| + eps)
        expected = start - 0.003 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(found.data, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('given, expected', [(None, 4), (6, 6)])
def test_a_cost_counts_the_channels_of_the_supernet(given, expected):
    model = segmentor()
    cfg = dict(model_config()['backbone'], in_channels=4)
    model.backbone = MODELS.build(cfg)
    term = CostTerm(**COST, in_channels=given)
    _, arch_step = prepared(model, terms=[term])
    arch = model.backbone.architecture()
    three = CostTerm(**COST, in_channels=3)
    three.prepare(*arch_step.params)
    costs = [t.measures_of(arch)['decoded_cost'] for t in (three, term)]
    # 3 x 3 weights of four filters, at stride 2.
    more = (expected - 3) * 9 * 4 * 32**2
    assert costs[1] - costs[0] == more


def test_the_weights_are_left_alone():
    model, arch_step = prepared()
    before = {name: p.clone() for name, p in model.named_parameters()}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    arch_step.step(batch())
    for name, p in model.named_parameters():
        is_arch = name in ('backbone.alphas', 'backbone.betas')
        assert p.grad is None, name
        assert p.requires_grad == (name in trained) == (not is_arch), name
        assert torch.equal(p, before[name]) != is_arch, name


def test_the_cost_joins_the_gradient():
    """SGD with lr 1 moves by the gradient of the sum, to the point."""
    moved = []
    term = CostTerm(**COST)
    for terms in ([], [term]):
        model, arch_step = prepared(
            optimizer=dict(type='SGD', lr=1.0), terms=terms
        )
        before = [p.clone() for p in arch_step.params]
        losses = arch_step.step(batch())
        moved.append([a - b for a, b in zip(before, arch_step.params)])
        assert all(not value.requires_grad for value in losses.values())
    params = [p.clone().requires_grad_() for p in before]
    expected = term(*params)
    assert losses['arch_cost_loss'].item() == pytest.approx(expected.item())
    for alone, both, gradient in zip(
        *moved, torch.autograd.grad(expected, params)
    ):
        assert gradient.abs().max() > 1e-2
        torch.testing.assert_close(
            both - alone, gradient, rtol=1e-4, atol=1e-5
        )
    assert arch_step.measures().keys() == {
        *('alpha_entropy', 'beta_entropy', 'expected_cost')
    }


def test_a_step_goes_on_from_its_state():
    """To the last bit, as without the stop; Adam's moments are in it."""
    model, arch_step = prepared()
    arch_step.step(batch())
    twin = copy.deepcopy(model)
    state = copy.deepcopy(arch_step.state_dict())
    arch_step.step(batch())
    ends = []
    for load in (True, False):
        _, other = prepared(copy.deepcopy(twin))
        if load:
            other.load_state_dict(dict(state, more=1))
        other.step(batch())
        ends.append(
            all(map(torch.equal, other.params, arch_step.params)),
        )
    assert ends == [True, False]


def test_a_model_that_is_no_supernet():
    model = segmentor()
    model.backbone = torch.nn.Linear(1, 1)
    with pytest.raises(UserError, match='found Linear; use AutoDeepLabSup'):
        prepared(model)


@pytest.mark.parametrize('avg_non_ignore', [False, True])
@pytest.mark.parametrize('sampler', [None, dict(type='OHEMPixelSampler')])
def test_crops_of_which_every_pixel_is_ignored(avg_non_ignore, sampler):
    """Nothing to learn from is no NaN, in either step."""
    model = segmentor(
        sampler=sampler,
        loss_decode=dict(
            type='CrossEntropyLoss', avg_non_ignore=avg_non_ignore
        ),
    ).train()
    weights = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(
        torch.optim.SGD(weights, lr=0.025, momentum=0.9, weight_decay=3e-4)
    )
    arch_step = ArchStep(model, wrapper)
    ignored = batch()
    for sample in ignored['data_samples']:
        sample.gt_sem_seg.data.fill_(255)
    before = {k: v.clone() for k, v in model.named_parameters()}

    assert model.train_step(ignored, wrapper)['loss'] == 0
    assert arch_step.step(ignored)['arch_loss'] == 0
    for name, value in model.named_parameters():
        if name in ('backbone.alphas', 'backbone.betas'):
            # Adam scales its weight decay to the learning rate.
            assert torch.allclose(value, before[name], atol=0.004), name
        else:
            # Gradients are zero, and the weight decay is what moves it.
            expected = before[name] * (1 - 0.025 * 3e-4)
            assert torch.allclose(value, expected, rtol=1e-6), name
    assert all(value.isfinite().all() for value in model.state_dict().values())

    # The next batch is learnt from as ever.
    learnt = random_batch(2, 64, 6)
    assert model.train_step(learnt, wrapper)['loss'].isfinite()
    assert arch_step.step(learnt)['arch_loss'].isfinite()
    assert all(v.isfinite().all() for v in model.state_dict().values())


def test_three_steps_are_those_of_the_paper_s_adam():
    """Of weight decay within the gradient, and both moments."""
    model, arch_step = prepared()
    for p in arch_step.params:  # far from zero, so that decay is seen
        p.data = torch.randn_like(p)
    twin = copy.deepcopy(model)
    params = twin.backbone.arch_parameters()
    for p in params:
        p.requires_grad_(True)
    adam = torch.optim.Adam(params, lr=0.003, weight_decay=0.001)
    for _ in range(3):
        arch_step.step(batch())
        data = twin.data_preprocessor(batch(), True)
        adam.zero_grad()
        twin(**data, mode='loss')['decode.loss_ce'].backward()
        adam.step()
    for p, found in zip(params, arch_step.params):
        torch.testing.assert_close(found.data, p.data, rtol=0, atol=1e-6)


def test_images_are_prepared_as_in_training():
    """Those that are smaller than the crop are padded to it."""
    model, arch_step = prepared()
    sizes = []
    model.backbone.register_forward_pre_hook(
        lambda module, args: sizes.append(tuple(args[0].shape))
    )
    arch_step.step(random_batch(2, 48, 6))
    assert sizes == [(2, 3, 64, 64)]


def move(rank):
    """By the gradient of a batch: that of each process has its own."""
    _, arch_step = prepared(optimizer=dict(type='SGD', lr=1.0))
    before = [p.clone() for p in arch_step.params]
    torch.manual_seed(rank)
    arch_step.step(random_batch(2, 64, 6))
    return [a - b for a, b in zip(before, arch_step.params)]


@pytest.mark.run
def test_gradients_are_the_mean_of_all_processes(two_ranks):
    ranks = two_ranks.run(move)
    for first, second, *alone in zip(*ranks, move(0), move(1)):
        assert torch.equal(first, second)
        assert not torch.allclose(*alone, rtol=0.1)
        torch.testing.assert_close(first, sum(alone) / 2, rtol=1e-4, atol=1e-6)


def test_a_supernet_that_knows_the_default_score_alone():
    class Own(torch.nn.Module):
        def architecture(self):
            return 'found'

    assert architecture_of(Own(), 'probability') == 'found'
    with pytest.raises(UserError, match='of Own takes no score; give it one'):
        architecture_of(Own(), 'lift')
