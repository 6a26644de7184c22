"""The architecture step under autocast; that of the CPU, which has no fp16."""

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper
from small_search import batch, segmentor

from mmseg_autodeeplab.search.gradient import ArchStep


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
    """A step that moves by the gradient, and the wrapper of the weights."""
    model = segmentor()
    weights = [p for p in model.parameters() if p.requires_grad]
    wrapper = wrapper(optimizer=torch.optim.SGD(weights, lr=0.1), **kwargs)
    return ArchStep(model, wrapper, dict(type='SGD', lr=1.0)), wrapper


def moved_by(arch_step):
    """The loss, and what was taken off the parameters."""
    before = [p.clone() for p in arch_step.params]
    loss = arch_step.step(batch())['arch_loss']
    moved = [(a - b).flatten() for a, b in zip(before, arch_step.params)]
    return loss, torch.cat(moved)


@pytest.mark.parametrize(
    'dtype,is_scaled',
    [(None, True), ('float16', True), ('bfloat16', False)],
)
def test_fp16_alone_is_scaled(dtype, is_scaled):
    arch_step, _ = prepared(dtype=dtype)
    assert ('scaler' in arch_step.state_dict()) == is_scaled


def test_bfloat16_is_close_to_single_precision():
    exact_loss, exact = moved_by(prepared(OptimWrapper)[0])
    loss, found = moved_by(prepared(dtype='bfloat16')[0])
    assert not torch.equal(loss, exact_loss)  # It was autocast.
    torch.testing.assert_close(loss, exact_loss, rtol=1e-2, atol=0)
    assert (found - exact).norm() < 0.2 * exact.norm()


def test_the_scale_cancels():
    """A power of two: to the last bit, where nothing overflows."""
    expected = moved_by(prepared(dtype='bfloat16')[0])
    for found, value in zip(moved_by(prepared(dtype=None)[0]), expected):
        assert torch.equal(found, value)


def test_a_step_that_overflows_is_skipped():
    """With a scale of its own, which a state brings along."""
    arch_step, wrapper = prepared(dtype=None)
    state = arch_step.state_dict()
    state['scaler']['scale'] = 2.0**127
    arch_step.load_state_dict(state)
    loss, moved = moved_by(arch_step)
    assert loss.isfinite() and not moved.any()
    assert arch_step.state_dict()['scaler']['scale'] == 2.0**126
    assert wrapper.loss_scaler.get_scale() == 2.0**16
    assert all(p.grad is None for p in arch_step.params)
