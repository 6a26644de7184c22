"""Gradients accumulated over batches, with the architecture step between."""

import pytest
import torch
from small_search import FixedNorms, build, equal, search_config, split_state

pytestmark = pytest.mark.run


def searched(tmp_path, batch_size, accumulative_counts, lr, arch_lr):
    """Weights and architecture after eight batches of two, or four of 4."""
    cfg = search_config(tmp_path, max_iters=16 // batch_size)
    cfg.custom_hooks[0].optimizer = dict(type='Adam', lr=arch_lr)
    cfg.train_dataloader.batch_size = batch_size
    cfg.train_dataloader.dataset.num_images = 24
    cfg.optim_wrapper.accumulative_counts = accumulative_counts
    cfg.optim_wrapper.optimizer.lr = lr
    runner = build(cfg)
    runner.register_hook(FixedNorms())
    runner.train()
    return split_state(runner)


def test_two_batches_are_one_of_twice_the_size(tmp_path):
    """For the weights; batch norm, which sees either batch alone, aside."""
    halves, _ = searched(tmp_path, 2, 2, lr=0.005, arch_lr=0)
    doubles, _ = searched(tmp_path, 4, 1, lr=0.005, arch_lr=0)
    singles, _ = searched(tmp_path, 2, 1, lr=0.005, arch_lr=0)
    for name, expected in doubles.items():
        torch.testing.assert_close(
            halves[name], expected, rtol=0, atol=1e-6, msg=name
        )
    # Which is not what happens without.
    name = 'backbone.layers.0.0.entries.0.1.weight'
    assert (singles[name] - doubles[name]).abs().max() > 1e-4


def test_the_architecture_steps_with_every_batch(tmp_path):
    """To the last bit, as without: it has no part in the accumulation."""
    _, accumulated = searched(tmp_path, 2, 2, lr=0, arch_lr=0.003)
    _, expected = searched(tmp_path, 2, 1, lr=0, arch_lr=0.003)
    _, fewer = searched(tmp_path, 4, 1, lr=0, arch_lr=0.003)
    assert equal(accumulated, expected)
    assert not torch.equal(fewer['alphas'], expected['alphas'])
