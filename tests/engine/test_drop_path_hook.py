"""Scheduled drop path: the formula, the expectation, the log."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmseg.registry import HOOKS, MODELS
from torch import nn

from mmseg_autodeeplab.arch import AutoDeepLabArchitecture, Connection
from mmseg_autodeeplab.engine.hooks import (
    ScheduledDropPathHook,
    keep_probability,
)
from mmseg_autodeeplab.models.layers import Cell


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


def fake_runner(backbone, iteration=0):
    return SimpleNamespace(
        model=SimpleNamespace(backbone=backbone),
        iter=iteration,
        max_iters=100,
        message_hub=MessageHub.get_instance('drop_path_test'),
    )


@pytest.fixture
def published():
    return MODELS.build(
        dict(
            type='AutoDeepLab',
            arch='autodeeplab',
            filter_multiplier=1,
            stem_channels=2,
        )
    )


@pytest.mark.parametrize(
    'iteration,expected',
    [
        (0, (1.0, 1.0, 1.0)),
        # 1 - 0.5 * (c + 1) / 12 * 0.4
        (50, (1 - 0.2 / 12, 0.9, 0.8)),
        (100, (1 - 0.4 / 12, 0.8, 0.6)),
    ],
)
def test_keep_probabilities_of_cells_0_5_and_11(
    published, iteration, expected
):
    hook = HOOKS.build(dict(type='ScheduledDropPathHook', keep_prob=0.6))
    runner = fake_runner(published, iteration)
    hook.before_train(runner)
    hook.before_train_iter(runner, iteration)
    found = [published.cells[c].keep_prob for c in (0, 5, 11)]
    assert found == pytest.approx(expected)
    logged = runner.message_hub.get_scalar('train/keep_prob').current()
    assert logged == pytest.approx(expected[-1])


def test_it_stays_where_it_ends():
    assert keep_probability(11, 12, 0.6, 1.5) == pytest.approx(0.6)


def one_block_cell(*operations):
    block = tuple(Connection(i, op) for i, op in enumerate(operations))
    architecture = AutoDeepLabArchitecture([block], [4, 4, 4])
    return Cell(architecture.cell, 4, 4, 4, 1, dict(type='BN'), True)


def test_samples_are_dropped_whole_and_the_mean_is_preserved():
    torch.manual_seed(0)
    cell = one_block_cell('avg_pool_3x3', 'max_pool_3x3')
    cell.entry = nn.Identity()
    x = torch.rand(4000, 4, 3, 3) + 1
    expected = cell(x, x)
    cell.keep_prob = 0.7
    out = cell(x, x)
    dropped = out.eq(0).flatten(1)
    assert dropped.any(1).equal(dropped.all(1))
    # Both operations, each by itself; five standard deviations.
    assert dropped.all(1).float().mean().item() == pytest.approx(
        0.3**2, abs=0.023
    )
    assert out.mean().item() == pytest.approx(expected.mean().item(), rel=0.04)


def test_skip_connections_are_exempt():
    cell = one_block_cell('skip_connect', 'skip_connect')
    cell.keep_prob = 1e-6
    x = torch.randn(8, 4, 5, 5)
    torch.testing.assert_close(cell(x, x), cell.entry(x) + x)


def test_every_other_operation_is_dropped_by_itself():
    torch.manual_seed(0)
    cell = one_block_cell('sep_conv_3x3', 'max_pool_3x3')
    cell.keep_prob = 0.5
    x = torch.randn(64, 4, 5, 5)
    states = cell.entry(x), x
    left, right = (
        operation(state) for operation, state in zip(cell.blocks[0], states)
    )
    out = cell(x, x)
    matches = [
        torch.isclose(out, 2 * (a * left + b * right), atol=1e-5)
        .flatten(1)
        .all(1)
        for a in (0, 1)
        for b in (0, 1)
    ]
    # Each sample is one of the four combinations, and all of them occur.
    assert torch.stack(matches).sum(0).eq(1).all()
    assert all(match.any() for match in matches)


def test_testing_drops_nothing(published):
    published.set_keep_probs([1e-6] * 12)
    published.eval()
    x = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        assert torch.equal(published(x)[-1], published(x)[-1])
        dropped = published(x)[-1]
        published.set_keep_probs([1.0] * 12)
        assert torch.equal(published(x)[-1], dropped)


@pytest.mark.parametrize('keep_prob', [0, -1, 1.1])
def test_keep_prob_is_a_probability(keep_prob):
    with pytest.raises(ValueError, match='above 0 and at most 1'):
        ScheduledDropPathHook(keep_prob)


def test_a_backbone_without_cells():
    with pytest.raises(ValueError, match='found Identity; use AutoDeepLab'):
        ScheduledDropPathHook(0.5).before_train(fake_runner(nn.Identity()))
