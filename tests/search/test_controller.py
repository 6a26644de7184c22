"""The policy of a black-box search, and how it learns."""

import math

import numpy as np
import pytest
import torch

from mmseg_autodeeplab.search.blackbox.controller import Controller, Told
from mmseg_autodeeplab.search.blackbox.controller_sampler import decisions_of

SMALL = dict(sizes=[3, 2, 1], heads=[0, 1, 0, 2, 1], hidden=4)


class Templates:
    """Choices of the template space: 3 templates, 7 layers."""

    def draw(self, choose):
        for i in range(3):
            for name in (f'op_{i}_0', f'op_{i}_1'):
                choose(name, 'abcdef')
            choose(f'aggregation_{i}', 'ab')
        for i in range(7):
            choose(f'first_input_{i}', range(2 + i))
            choose(f'second_input_{i}', range(2 + i))
            choose(f'template_{i}', range(3))
            choose(f'repeats_{i}', (1, 2, 3, 4))
            choose(f'stride_{i}', (1, 2) if i < 3 else (1,))


def published(seed=0):
    """The controller of the paper, and its decisions."""
    decisions = decisions_of(Templates())
    heads = list(dict.fromkeys(decision.head for decision in decisions))
    return decisions, Controller(
        seed,
        sizes=[len(options) for _, options in heads],
        heads=[heads.index(decision.head) for decision in decisions],
    )


def direct(controller, choices):
    """Log-probabilities by the equations of an LSTM, in float64."""
    weights = {
        name: value.double().numpy()
        for name, value in controller.policy.state_dict().items()
    }

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    x, size = weights['first'][0], weights['first'].size
    hidden, memory = np.zeros((2, size)), np.zeros((2, size))
    found = []
    for step in range(-2, len(choices)):
        for layer in range(2):
            w = {k: weights[f'cells.{layer}.{k}'] for k in NAMES}
            gates = w['weight_ih'] @ x + w['bias_ih']
            gates += w['weight_hh'] @ hidden[layer] + w['bias_hh']
            i, f, g, o = gates.reshape(4, size)
            memory[layer] = sigmoid(f) * memory[layer]
            memory[layer] += sigmoid(i) * np.tanh(g)
            x = hidden[layer] = sigmoid(o) * np.tanh(memory[layer])
        if step >= 0:
            head = controller.policy.order[step]
            logits = weights[f'heads.{head}.weight'] @ x
            logits += weights[f'heads.{head}.bias']
            found.append(logits - np.log(np.exp(logits).sum()))
            if f'embeddings.{head}.weight' in weights:
                x = weights[f'embeddings.{head}.weight'][choices[step]]
    return found


NAMES = ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh')


def test_the_published_controller():
    """44 decisions; 171,188 parameters with a table that nothing reads.

    The original has a table of its 6 operations, 100 numbers each, in which
    nothing is ever looked up.
    """
    decisions, controller = published()
    assert len(decisions) == 44
    parameters = sum(p.numel() for p in controller.policy.parameters())
    assert parameters + 6 * 100 == 171_188
    uniform = sum(math.log(len(decision.options)) for decision in decisions)
    assert uniform == pytest.approx(53.51, abs=0.005)
    for seed in range(3):
        _, controller = published(seed)
        entropy = sum(
            -(np.exp(log) * log).sum() for log in direct(controller, [0] * 44)
        )
        assert entropy == pytest.approx(53.44, abs=0.04)
        for parameter in controller.policy.parameters():
            assert parameter.abs().max() <= 0.1
        largest = [p.abs().max() for p in controller.policy.cells.parameters()]
        assert min(largest) > 0.098


@pytest.mark.parametrize('feed_choices', [False, True])
def test_log_probabilities(feed_choices):
    controller = Controller(3, feed_choices=feed_choices, **SMALL)
    for parameter in controller.policy.parameters():
        parameter.data *= 20  # Far from uniform.
    seen = set()
    for seed in range(5):
        choices, log_prob = controller.draw(np.random.RandomState(seed))
        log_probs = direct(controller, choices)
        expected = sum(p[c] for p, c in zip(log_probs, choices, strict=True))
        assert log_prob == pytest.approx(expected, abs=1e-5)
        seen.add(np.round(log_probs[-1], 4).tobytes())
    # Decisions know those before them only where choices are fed back.
    assert (len(seen) > 1) == feed_choices


def test_draws_are_as_likely_as_the_policy_says():
    controller = Controller(0, **SMALL)
    for parameter in controller.policy.parameters():
        parameter.data *= 20
    rng = np.random.RandomState(0)
    draws = np.array([controller.draw(rng)[0] for _ in range(1500)])
    for step, log_probs in enumerate(direct(controller, [0] * 5)):
        for option, expected in enumerate(np.exp(log_probs)):
            share = (draws[:, step] == option).mean()
            assert share == pytest.approx(expected, abs=0.04)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = torch.get_rng_state()
        Controller(0, **SMALL).draw(rng)
        assert torch.equal(before, torch.get_rng_state())


def ppo_by_autograd(controller, told, slots):
    """The update as the paper's code has it: empty slots are zeros."""
    optimizer = torch.optim.Adam(controller.policy.parameters(), lr=0.02)
    zeros = Told([0] * 5, 0.0, 0.0)
    for count in range(1, len(told) + 1):
        baseline = told[0].reward
        for one in told[:count]:
            baseline = 0.9 * baseline + 0.1 * one.reward
        kept = [*told[:count][-slots:], *[zeros] * slots][:slots]
        rng = np.random.RandomState([controller.seed, 1, count])
        for slot in rng.permutation(slots):
            one = kept[slot]
            advantage = one.reward - baseline
            _, log_prob = controller.policy(lambda i, _, o=one: o.choices[i])
            ratio = torch.exp(log_prob - one.log_prob)
            clipped = ratio.clamp(0.8, 1.2) * advantage
            loss = -torch.minimum(ratio * advantage, clipped)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(
                controller.policy.parameters(), 0.05
            )
            optimizer.step()


def test_an_update_is_that_of_ppo():
    options = dict(lr=0.02, buffer=4, decay=0.9, clip=0.2, max_norm=0.05)
    one, other = (Controller(1, **options, **SMALL) for _ in range(2))
    told = []
    for index, reward in enumerate([0.9, 0.1, 0.8, 0.5, 0.2, 0.95, 0.4]):
        rng = np.random.RandomState(index)
        told.append(Told(*one.draw(rng), reward))
        one.learn(told)
    ppo_by_autograd(other, told, 4)
    start = Controller(1, **options, **SMALL).policy.state_dict()
    for name, value in one.policy.state_dict().items():
        torch.testing.assert_close(value, other.policy.state_dict()[name])
        assert not name.startswith('cells') or (value != start[name]).any()


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_it_finds_the_best_arm_of_every_decision(seed):
    """Where draws at random are right a quarter of the time."""
    best = np.random.RandomState(seed).randint(4, size=3)
    controller = Controller(
        seed, lr=1e-3, buffer=20, sizes=[4] * 3, heads=range(3), hidden=16
    )
    told = []
    for index in range(90):
        draw = controller.draw(np.random.RandomState([seed, index]))
        told.append(Told(*draw, np.mean(np.equal(draw[0], best))))
        controller.learn(told)
    found = [log.argmax() for log in direct(controller, best)]
    assert found == list(best)
    rewards = [one.reward for one in told]
    assert np.mean(rewards[:15]) < 0.5 < 0.75 < np.mean(rewards[-15:])
