"""The architecture step under autocast; that of the CPU, which has no fp16."""

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper
from small_search import batch, segmentor

from mmseg_autodeeplab.search.gradient import ArchSearchHook


class CpuScaler(torch.amp.GradScaler):
    def __init__(self, **kwargs):
        super().__init__('cpu', **kwargs)


@pytest.fixture(autouse=True)
def amp_on_cpu(monkeypatch):
    """``AmpOptimWrapper`` wants a GPU, and its scaler would do nothing."""
    for name, value in dict(
        is_cuda_available=lambda: True, GradScaler=CpuScaler
    ).items():
        monkeypatch.setattr(amp_optimizer_wrapper, name, value)
    monkeypatch.setattr('mmengine.runner.amp.get_device', lambda: 'cpu')


def prepared(wrapper=AmpOptimWrapper, **kwargs):
    """A hook that moves by the gradient, its model and its wrapper."""
    model = segmentor()
    weights = [p for p in model.parameters() if p.requires_grad]
    wrapper = wrapper(optimizer=torch.optim.SGD(weights, lr=0.1), **kwargs)
    hook = ArchSearchHook(optimizer=dict(type='SGD', lr=1.0))
    hook.prepare(model, wrapper)
    return hook, model, wrapper


def step(hook, model, wrapper):
    params = model.backbone.arch_parameters()
    before = [p.clone() for p in params]
    loss = hook.step(model, wrapper, batch())['arch_loss']
    moved = [(a - b).flatten() for a, b in zip(before, params)]
    return loss, torch.cat(moved)


@pytest.mark.parametrize(
    'dtype,is_scaled',
    [(None, True), ('float16', True), ('bfloat16', False)],
)
def test_fp16_alone_is_scaled(dtype, is_scaled):
    hook, _, wrapper = prepared(dtype=dtype)
    assert (hook._scaler is not None) == is_scaled
    # Never that of the weights.
    assert hook._scaler is not wrapper.loss_scaler


def test_bfloat16_is_close_to_single_precision():
    exact_loss, exact = step(*prepared(OptimWrapper))
    loss, found = step(*prepared(dtype='bfloat16'))
    assert not torch.equal(loss, exact_loss)  # It was autocast.
    torch.testing.assert_close(loss, exact_loss, rtol=1e-2, atol=0)
    assert (found - exact).norm() < 0.2 * exact.norm()


def test_the_scale_cancels():
    """A power of two: to the last bit, where nothing overflows."""
    expected = step(*prepared(dtype='bfloat16'))
    for found, value in zip(step(*prepared(dtype=None)), expected):
        assert torch.equal(found, value)


def test_a_step_that_overflows_is_skipped():
    hook, model, wrapper = prepared(dtype=None)
    hook._scaler = CpuScaler(init_scale=2.0**127)
    loss, moved = step(hook, model, wrapper)
    assert loss.isfinite() and not moved.any()
    assert hook._scaler.get_scale() == 2.0**126
    assert wrapper.loss_scaler.get_scale() == 2.0**16
    assert all(p.grad is None for p in model.backbone.arch_parameters())
