"""The fused form of the supernet against the reference form."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import load_state_dict
from mmseg.registry import MODELS
from torch import nn

from mmseg_autodeeplab.models.layers import fused_functions

init_default_scope('mmseg')


def supernet(form, num_layers=4, num_blocks=2, filter_multiplier=2, **kwargs):
    return MODELS.build(
        dict(
            type='AutoDeepLabSupernet',
            num_layers=num_layers,
            num_blocks=num_blocks,
            filter_multiplier=filter_multiplier,
            stem_channels=4,
            form=form,
            **kwargs,
        )
    )


def pair(dtype=torch.double, **kwargs):
    """Both forms with the same, far from fresh, state."""
    torch.manual_seed(0)
    reference = supernet('reference', **kwargs).to(dtype)
    for p in reference.arch_parameters():
        p.data = torch.randn_like(p)
        p.requires_grad_(True)
    for m in reference.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
            if m.affine:
                nn.init.normal_(m.weight)
                nn.init.normal_(m.bias)
    fused = supernet('fused', **kwargs).to(dtype)
    fused.load_state_dict(reference.state_dict())
    for p in fused.arch_parameters():
        p.requires_grad_(True)
    return reference, fused


def gradients(net):
    """Gradients of all parameters, under the keys of the state dict."""
    twin = copy.deepcopy(net)
    for copied, p in zip(twin.parameters(), net.parameters()):
        copied.data = p.grad.clone()
    buffers = ('running_mean', 'running_var', 'num_batches_tracked')
    return {
        key: value
        for key, value in twin.state_dict().items()
        if not key.endswith(buffers)
    }


def run(net, x):
    outs = net(x)
    generator = torch.Generator().manual_seed(1)
    # The same directions in any precision.
    directions = [
        torch.randn(out.shape, generator=generator, dtype=torch.double)
        for out in outs
    ]
    loss = sum(
        (out * direction.to(out.dtype)).mean()
        for out, direction in zip(outs, directions)
    )
    loss.backward()
    return outs


def error(found, expected):
    """Distance, relative to the length of what is expected."""
    found, expected = found.detach(), expected.detach()
    distance = (found - expected).double().norm()
    return distance / expected.double().norm() if distance else 0


@pytest.mark.parametrize('mode', ['train', 'eval'])
@pytest.mark.parametrize(
    'num_layers,num_blocks,size',
    [
        (3, 1, (65, 49)),
        (3, 3, (64, 64)),
        (5, 3, (64, 64)),
        (12, 1, (65, 49)),
    ],
)
def test_the_same_numbers(num_layers, num_blocks, size, mode):
    compare(num_layers, num_blocks, size, mode)


@pytest.mark.parametrize(
    'num_layers,num_blocks,size,mode',
    [(3, 5, (64, 64), 'train'), (12, 1, (65, 49), 'eval')],
)
def test_the_same_numbers_in_single_precision(
    monkeypatch, num_layers, num_blocks, size, mode
):
    compare_in_single_precision(
        monkeypatch, num_layers, num_blocks, size, mode
    )


@pytest.mark.parametrize(
    'num_layers,num_blocks,size,mode',
    [
        (3, 5, (64, 64), 'train'),
        (12, 1, (65, 49), 'eval'),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (3, 5, (64, 64), 'eval'),
                (5, 3, (65, 49), 'train'),
                (5, 3, (65, 49), 'eval'),
                (12, 1, (65, 49), 'train'),
            )
        ),
    ],
)
def test_gradients_with_kinks_in_single_precision(
    num_layers, num_blocks, size, mode
):
    """Shallow or narrow: no rounding of the fused form crosses a kink.

    One of the reference form may: its distance from double precision is the
    least bound.
    """
    reference, fused = pair(
        torch.float, num_layers=num_layers, num_blocks=num_blocks
    )
    exact = copy.deepcopy(reference).double()
    x = torch.randn(2, 3, *size)
    compare_outputs_and_statistics(reference, fused, mode, x, 1e-5, 1e-6)
    run(exact.train(mode == 'train'), x.double())
    found, expected = (
        gradients(fused),
        gradients(reference),
    )
    exact = gradients(exact)
    assert found.keys() == expected.keys()
    for key in expected:
        rounding = error(expected[key], exact[key])
        assert error(found[key], expected[key]) < max(1e-4, rounding), key


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['train', 'eval'])
@pytest.mark.parametrize('num_blocks', [1, 3, 5])
@pytest.mark.parametrize('num_layers', [3, 5, 12])
class TestWholeGrid:
    @pytest.mark.parametrize('size', [(64, 64), (65, 49)])
    def test_double(self, num_layers, num_blocks, size, mode):
        compare(num_layers, num_blocks, size, mode)

    # At 64 pixels, norms at stride 32 see eight values, and a chain of them
    # makes more than 1e-5 of the roundings, in either form.
    @pytest.mark.parametrize('size', [(96, 96), (65, 49)])
    def test_single(self, monkeypatch, num_layers, num_blocks, size, mode):
        compare_in_single_precision(
            monkeypatch, num_layers, num_blocks, size, mode
        )


def compare(num_layers, num_blocks, size, mode):
    reference, fused = pair(num_layers=num_layers, num_blocks=num_blocks)
    x = torch.randn(2, 3, *size, dtype=torch.double)
    compare_outputs_and_statistics(reference, fused, mode, x, 1e-10, 1e-10)
    compare_gradients(reference, fused, 1e-10)


def compare_in_single_precision(
    monkeypatch, num_layers, num_blocks, size, mode
):
    """Gradients are compared without the kinks of ReLU and maximum.

    At a kink, a rounding decides which way a gradient goes. In deep networks
    the reference form differs by more than 1e-4 from itself, in most of its
    weights, as soon as the convolutions sum up in another order.
    """
    # With fewer channels, some weights in front of a norm have hardly any
    # gradient but for roundings.
    net = dict(
        num_layers=num_layers, num_blocks=num_blocks, filter_multiplier=4
    )
    reference, fused = pair(torch.float, **net)
    x = torch.randn(2, 3, *size)
    compare_outputs_and_statistics(reference, fused, mode, x, 1e-5, 1e-6)

    remove_kinks(monkeypatch)
    reference, fused = pair(torch.float, **net)
    compare_outputs_and_statistics(reference, fused, mode, x, 1e-5, 1e-6)
    compare_gradients(reference, fused, 1e-4)


def remove_kinks(monkeypatch):
    """SiLU for ReLU, and the average for the maximum, in both forms."""

    def average(x, kernel_size, stride, padding, *args, **kwargs):
        return F.avg_pool2d(x, kernel_size, stride, padding)

    monkeypatch.setattr(F, 'relu', lambda x, inplace: F.silu(x))
    monkeypatch.setattr(torch.Tensor, 'relu', F.silu)
    monkeypatch.setattr(torch.Tensor, 'relu_', F.silu)
    monkeypatch.setattr(F, 'max_pool2d', average)


def compare_outputs_and_statistics(
    reference, fused, mode, x, bound, of_running
):
    for net in (reference, fused):
        net.train(mode == 'train')
    for found, expected in zip(run(fused, x), run(reference, x)):
        assert error(found, expected) < bound
    expected = reference.state_dict()
    for key, value in fused.state_dict().items():
        if key.endswith(('running_mean', 'running_var')):
            assert (value - expected[key]).abs().max() < of_running
        if key.endswith('num_batches_tracked'):
            assert value == expected[key]


def compare_gradients(reference, fused, bound):
    found, expected = (
        gradients(fused),
        gradients(reference),
    )
    assert found.keys() == expected.keys()
    for key in expected:
        assert error(found[key], expected[key]) < bound, key


@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_one_image_is_the_same_too(mode):
    reference, fused = pair(num_blocks=2)
    x = torch.randn(1, 3, 65, 49, dtype=torch.double)
    compare_outputs_and_statistics(reference, fused, mode, x, 1e-10, 1e-10)
    compare_gradients(reference, fused, 1e-10)


def test_affine_norm_is_the_same_too():
    reference, fused = pair(
        num_blocks=3, norm_cfg=dict(type='BN', affine=True, momentum=0.3)
    )
    x = torch.randn(2, 3, 65, 65, dtype=torch.double)
    for found, expected in zip(run(fused, x), run(reference, x)):
        assert error(found, expected) < 1e-10
    found, expected = (
        gradients(fused),
        gradients(reference),
    )
    for key in expected:
        assert error(found[key], expected[key]) < 1e-10
    torch.testing.assert_close(
        dict(fused.state_dict()), dict(reference.state_dict())
    )


def test_state_dicts_have_the_keys_of_the_reference_form():
    reference, fused = supernet('reference'), supernet('fused')
    shapes = {k: v.shape for k, v in reference.state_dict().items()}
    assert {k: v.shape for k, v in fused.state_dict().items()} == shapes
    # And far fewer tensors for the optimiser to go through.
    count = len(list(fused.parameters()))
    assert count < len(list(reference.parameters())) / 3


@pytest.mark.parametrize('load', ['torch', 'mmengine'])
@pytest.mark.parametrize('forms', [('reference', 'fused'), ('fused',) * 2])
def test_checkpoints_move_between_the_forms(forms, load, tmp_path):
    source, target = map(supernet, forms)
    torch.save(source.state_dict(), tmp_path / 'weights.pth')
    state = torch.load(tmp_path / 'weights.pth')
    if load == 'torch':
        target.load_state_dict(state)
    else:
        load_state_dict(target, state, strict=True)
    back = supernet('reference')
    back.load_state_dict(target.state_dict())
    found, expected = back.state_dict(), source.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize('form', ['reference', 'fused'])
def test_what_does_not_fit_is_named(form):
    net = supernet(form)
    state = net.state_dict()
    key = 'layers.2.1.cell.edges.3.5.1.weight'
    del state[key]
    with pytest.raises(RuntimeError, match='Missing key') as failure:
        net.load_state_dict(state)
    if form == 'reference':
        assert key in str(failure.value)
    state = supernet(form, num_blocks=3).state_dict()
    with pytest.raises(RuntimeError, match='Unexpected key'):
        net.load_state_dict(state)
    state = supernet(form, filter_multiplier=4).state_dict()
    with pytest.raises(RuntimeError, match='size mismatch'):
        net.load_state_dict(state)


def test_the_views_of_a_state_dict_are_the_weights():
    """Averaging and loading write through them."""
    net = supernet('fused')
    for value in net.state_dict().values():
        value.zero_()
    assert not any(p.any() for p in net.parameters())


def test_the_ways_of_a_gpu_are_the_same_too(monkeypatch):
    monkeypatch.setattr(fused_functions, 'is_on_gpu', lambda tensor: True)
    compare(3, 3, (65, 49), 'train')


@pytest.mark.parametrize(
    'norm_cfg',
    [
        dict(type='GN', num_groups=2),
        dict(type='BN', track_running_stats=False),
        dict(type='BN', momentum=None),
    ],
)
def test_other_norms_need_the_reference_form(norm_cfg):
    with pytest.raises(ValueError, match="form='reference'") as failure:
        supernet('fused', norm_cfg=norm_cfg)
    assert '\n' not in str(failure.value)
    supernet('reference', norm_cfg=norm_cfg)


def test_no_other_form():
    with pytest.raises(ValueError, match="'fused' or 'reference'"):
        supernet('clear')


@pytest.mark.parametrize('form', ['reference', 'fused'])
def test_checkpointing_changes_nothing_but_memory(form):
    """In both steps; the second run leaves running statistics alone."""
    torch.manual_seed(0)
    kept = supernet(form, num_layers=3)
    rerun = supernet(form, num_layers=3, with_cp=True)
    rerun.load_state_dict(kept.state_dict())
    x = torch.randn(2, 3, 65, 49)
    results = []
    for net in (kept, rerun):
        outs = run(net, x)
        weights = [p.grad for p in net.parameters() if p.requires_grad]
        for p in net.arch_parameters():
            p.requires_grad_(True)
        loss = sum(out.square().mean() for out in net(x))
        arch = torch.autograd.grad(loss, net.arch_parameters())
        results.append([*outs, *weights, *arch])
    for found, expected in zip(*results):
        torch.testing.assert_close(found, expected)
    expected = kept.state_dict()
    for key, value in rerun.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize('memory_format', ['contiguous', 'channels_last'])
def test_bfloat16_and_channels_last(memory_format):
    """Other precision and layout, close to the reference form."""
    reference, fused = pair(torch.float, num_blocks=3)
    x = torch.randn(2, 3, 64, 65)
    if memory_format == 'channels_last':
        fused = fused.to(memory_format=torch.channels_last)
        for found, expected in zip(
            run(fused, x.to(memory_format=torch.channels_last)),
            run(reference, x),
        ):
            assert error(found, expected) < 1e-5
        return
    with torch.autocast('cpu', torch.bfloat16):
        found, expected = fused(x), reference(x)
        assert all(out.dtype == torch.bfloat16 for out in found)
        loss = sum(out.float().square().mean() for out in found)
    arch = torch.autograd.grad(loss, fused.arch_parameters())
    assert all(grad.isfinite().all() for grad in arch)
    for out, other, exact in zip(found, expected, reference(x)):
        # The forms round at other places, by as much.
        assert error(out.float(), exact) < 2 * error(other.float(), exact)


def test_partial_channels_by_hand():
    """Half of the channels mixed, half averaged, then shuffled."""
    torch.manual_seed(0)
    net = supernet('reference', num_blocks=2, partial_channels=2).double()
    cell = net.layers[3][1].cell  # of width 4
    x, prev = torch.randn(2, 1, 4, 9, 9, dtype=torch.double)
    weights = torch.rand(5, 8, dtype=torch.double)
    out = cell([x], prev, weights, [torch.ones(())])

    def edge(i, state):
        return cell.edges[str(i)](state[:, :2], weights[i])

    mixed = edge(0, x) + edge(1, prev)
    passed = (x[:, 2:] + prev[:, 2:]) / 2
    first = torch.stack(
        [mixed[:, 0], passed[:, 0], mixed[:, 1], passed[:, 1]], dim=1
    )
    mixed = edge(2, x) + edge(3, prev) + edge(4, first)
    passed = (x[:, 2:] + prev[:, 2:] + first[:, 2:]) / 3
    second = torch.stack(
        [mixed[:, 0], passed[:, 0], mixed[:, 1], passed[:, 1]], dim=1
    )
    torch.testing.assert_close(out, torch.cat([first, second], dim=1))


@pytest.mark.parametrize('partial_channels', [2, 4])
def test_partial_channels_are_the_same_in_both_forms(partial_channels):
    reference, fused = pair(
        num_blocks=3, filter_multiplier=4, partial_channels=partial_channels
    )
    x = torch.randn(2, 3, 65, 49, dtype=torch.double)
    for found, expected in zip(run(fused, x), run(reference, x)):
        assert error(found, expected) < 1e-10
    found, expected = (
        gradients(fused),
        gradients(reference),
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert fused.architecture() == reference.architecture()


@pytest.mark.parametrize('partial_channels', [0, 3])
def test_partial_channels_that_do_not_divide(partial_channels):
    with pytest.raises(ValueError, match='to divide filter_multiplier, 2'):
        supernet('fused', partial_channels=partial_channels)


def test_any_eps_and_momentum_are_the_same_too():
    norm_cfg = dict(type='BN', affine=False, eps=0.1, momentum=0.3)
    reference, fused = pair(num_blocks=2, norm_cfg=norm_cfg)
    x = torch.randn(2, 3, 65, 49, dtype=torch.double)
    compare_outputs_and_statistics(reference, fused, 'train', x, 1e-10, 1e-10)
    compare_outputs_and_statistics(reference, fused, 'eval', x, 1e-10, 1e-10)
