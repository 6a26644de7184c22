"""The supernet against the paper's equations, written out again."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from tester import BackboneTester

from mmseg_autodeeplab.arch import (
    PRIMITIVES,
    decode,
    incoming,
    levels_at,
    num_edges,
    transition_mask,
)
from mmseg_autodeeplab.models import AutoDeepLabSupernet

init_default_scope('mmseg')

# It makes batch norm forget the scale of its input, but for rounding.
TINY_EPS = dict(type='BN', affine=False, eps=1e-20)


def supernet(
    num_layers=4, num_blocks=2, filter_multiplier=2, seed=0, **kwargs
):
    torch.manual_seed(seed)
    net = MODELS.build(
        dict(
            type='AutoDeepLabSupernet',
            num_layers=num_layers,
            num_blocks=num_blocks,
            filter_multiplier=filter_multiplier,
            stem_channels=4,
            **kwargs,
        )
    )
    for p in net.arch_parameters():  # far from uniform
        p.data = torch.randn_like(p)
    return net


class SupernetTester(BackboneTester):
    base = 'autodeeplab_supernet.py'
    strides = (4, 8, 16, 32)

    def check_gradients(self, net):
        """Those of the architecture are not asked for."""
        super().check_gradients(net)
        assert all(p.grad is None for p in net.arch_parameters())


class TestFused(SupernetTester):
    other_norm = dict(type='BN', momentum=0.25)
    cfg = dict(
        type='AutoDeepLabSupernet',
        num_layers=4,
        num_blocks=2,
        filter_multiplier=2,
        stem_channels=4,
    )


class TestReference(SupernetTester):
    cfg = dict(TestFused.cfg, num_blocks=1, form='reference')


def softmax(values):
    e = [v.exp() for v in values]
    return [v / sum(e) for v in e]


def equations(net, x):
    """Equations (1) to (8), one symbol at a time."""
    alpha = [softmax(list(row)) for row in net.alphas]
    num_blocks = net.layers[0][0].cell.num_blocks

    def cell(module, h1, h2):
        states, edge, blocks = [h1, h2], 0, []
        for block in range(num_blocks):
            total = 0
            for state in range(block + 2):
                if states[state] is not None:
                    operations = module.edges[str(edge)]
                    for k in range(1, len(PRIMITIVES)):
                        total = total + alpha[edge][k] * operations[k - 1](
                            states[state]
                        )
                edge += 1
            states.append(total)
            blocks.append(total)
        return torch.cat(blocks, 1)

    def beta(layer, source, target):
        """s -> s' out of its 2 or 3 alternatives."""
        targets = [t for t in (source - 1, source, source + 1) if 0 <= t <= 3]
        values = softmax(
            [net.betas[layer, source, t - source + 1] for t in targets]
        )
        return values[targets.index(target)]

    sizes = [tuple(-(-n // s) for n in x.shape[2:]) for s in (4, 8, 16, 32)]
    h = {(-1, 0): net.stem(x)[1]}
    for layer, nodes in enumerate(net.layers):
        for level, node in enumerate(nodes):
            h2 = h.get((layer - 2, level))
            if h2 is not None:
                h2 = node.prev_entry(h2)
            total, entry = 0, 0
            if (layer - 1, level - 1) in h:  # s/2 -> s
                h1 = node.entries[entry](h[layer - 1, level - 1])
                total = total + beta(layer, level - 1, level) * cell(
                    node.cell, h1, h2
                )
                entry += 1
            if (layer - 1, level) in h:  # s -> s
                h1 = node.entries[entry](h[layer - 1, level])
                total = total + beta(layer, level, level) * cell(
                    node.cell, h1, h2
                )
                entry += 1
            if (layer - 1, level + 1) in h:  # 2s -> s
                h1 = F.interpolate(
                    h[layer - 1, level + 1],
                    size=sizes[level],
                    mode='bilinear',
                    align_corners=True,
                )
                total = total + beta(layer, level + 1, level) * cell(
                    node.cell, node.entries[entry](h1), h2
                )
            h[layer, level] = total
    last = len(net.layers) - 1
    return [h[last, level] for level in range(4)]


@pytest.mark.parametrize(
    'num_layers,num_blocks,size',
    [(3, 1, (70, 49)), (4, 2, (65, 65)), (5, 3, (49, 33))],
)
def test_the_forward_is_the_equations(num_layers, num_blocks, size):
    net = supernet(num_layers, num_blocks, form='reference').double()
    x = torch.randn(2, 3, *size, dtype=torch.double)
    outs = net(x)
    for out, expected in zip(outs, equations(net, x)):
        torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    assert [out.shape[1] for out in outs] == net.out_channels


def test_the_gradient_of_every_beta():
    """Each existing transition by finite differences; the others have none.

    An index slip leaves a transition with the softmax denominator's share.
    """
    net = supernet(3, 1).double().eval()
    x = torch.randn(1, 3, 33, 33, dtype=torch.double)
    projections = [torch.randn_like(out) for out in net(x)]

    def loss():
        return sum((p * out).sum() for p, out in zip(projections, net(x)))

    net.betas.requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(), net.betas)
    net.betas.requires_grad_(False)
    mask = torch.from_numpy(transition_mask(3))
    assert (gradient[~mask] == 0).all()
    for index in mask.nonzero():
        index = tuple(index.tolist())
        values = []
        for step in (1e-5, -2e-5):
            net.betas[index] += step
            values.append(loss().item())
        net.betas[index] += 1e-5
        difference = (values[0] - values[1]) / 2e-5
        assert gradient[index].item() == pytest.approx(
            difference, rel=1e-4, abs=1e-6
        )
        assert abs(difference) > 1e-9


def test_transitions_are_probabilities():
    net = supernet(5)
    betas, mask = net.normalized_betas(), transition_mask(5)
    assert (betas[~torch.from_numpy(mask)] == 0).all()
    torch.testing.assert_close(
        betas.sum(-1), torch.from_numpy(mask).any(-1).float()
    )


@pytest.mark.parametrize('num_layers,num_blocks', [(3, 5), (5, 1), (5, 3)])
def test_every_parameter_gets_a_gradient(num_layers, num_blocks):
    net = supernet(num_layers, num_blocks)
    for p in net.arch_parameters():
        p.requires_grad_(True)
    outs = net(torch.randn(2, 3, 65, 65))
    sum(out.square().mean() for out in outs).backward()
    assert not [
        n
        for n, p in net.named_parameters()
        if p.grad is None or not p.grad.any()
    ]
    assert net.alphas.grad.ne(0).all()  # 'none' by way of the softmax
    assert net.betas.grad.ne(0).equal(net.transitions)


def test_only_what_exists_is_built():
    net = supernet(5, 2, form='reference')
    assert [len(nodes) for nodes in net.layers] == [2, 3, 4, 4, 4]
    assert (
        sum(len(node.entries) for nodes in net.layers for node in nodes)
        == transition_mask(5).sum()
    )
    # H^{l-2} at the target scale: nowhere in layer 0, at 4 in layer 1, ...
    exists = [
        [node.prev_entry is not None for node in nodes] for nodes in net.layers
    ]
    assert exists == [
        [False, False],
        [True, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]
    without, with_prev = net.layers[0][0].cell, net.layers[4][0].cell
    assert list(without.edges) == ['0', '2', '4']
    assert list(with_prev.edges) == ['0', '1', '2', '3', '4']


def test_architecture_parameters():
    torch.manual_seed(0)
    net = MODELS.build(
        dict(
            type='AutoDeepLabSupernet',
            num_layers=12,
            num_blocks=5,
            filter_multiplier=1,
        )
    )
    alphas, betas = net.arch_parameters()
    assert alphas is net.alphas and betas is net.betas
    assert alphas.shape == (20, 8) and betas.shape == (12, 4, 3)
    assert alphas.std().item() == pytest.approx(1e-3, rel=0.2)
    assert betas.std().item() == pytest.approx(1e-3, rel=0.2)
    assert not alphas.requires_grad and not betas.requires_grad
    state = net.state_dict()
    assert {'alphas', 'betas'} <= set(state)
    assert 'transitions' not in state
    # Weights and architecture are a disjoint, complete partition.
    trainable = {n for n, p in net.named_parameters() if p.requires_grad}
    everything = {n for n, _ in net.named_parameters()}
    assert everything - trainable == {'alphas', 'betas'}


def test_architecture_is_what_the_parameters_decode_to():
    net = supernet(6, 3)
    arrays = net.alphas.numpy(), net.betas.numpy()
    assert net.architecture() == decode(*arrays)
    assert net.architecture('lift') == decode(*arrays, 'lift')
    assert net.architecture('lift') != net.architecture()
    net.alphas.data[0, 0] = float('nan')
    with pytest.raises(ValueError, match='not finite'):
        net.architecture()


class ScaledInflow(AutoDeepLabSupernet):
    """All probabilities into one node are multiplied by a number."""

    scaled = (0, 0, 1.0)

    def normalized_betas(self):
        layer, level, factor = self.scaled
        betas = super().normalized_betas().clone()
        for source, direction in incoming(layer, level):
            betas[layer, source, direction] *= factor
        return betas


@pytest.mark.parametrize('form', ['fused', 'reference'])
def test_a_search_cannot_learn_where_a_source_should_go(form):
    """All that reads a node normalises it, so its inflow's sum is nothing."""
    torch.manual_seed(0)
    net = ScaledInflow(
        5, 2, 2, stem_channels=4, form=form, norm_cfg=TINY_EPS
    ).double()
    net.betas.data = torch.randn_like(net.betas)
    x = torch.randn(2, 3, 65, 65, dtype=torch.double)
    with torch.no_grad():
        expected = net(x)
        for layer in range(4):
            for level in levels_at(layer):
                net.scaled = layer, level, 7.0
                for found, want in zip(net(x), expected):
                    torch.testing.assert_close(found, want)
        # In the last layer it is the output that is scaled, and the head
        # normalises it: the scale at the end is not learned either.
        net.scaled = 4, 2, 7.0
        found = net(x)
        torch.testing.assert_close(found[2], 7 * expected[2])
        torch.testing.assert_close(found[1], expected[1])
    net.scaled = 0, 0, 1.0
    net.betas.requires_grad_()
    probabilities = []

    def keep(self=net):
        betas = AutoDeepLabSupernet.normalized_betas(self)
        betas.retain_grad()
        probabilities.append(betas)
        return betas

    net.normalized_betas = keep
    sum((y * y.detach().cos()).sum() for y in net(x)).backward()
    (betas,) = probabilities
    gains = (betas * betas.grad).detach()
    for layer in range(4):
        for level in levels_at(layer):
            edges = incoming(layer, level)
            of_edges = torch.stack([gains[layer, s, d] for s, d in edges])
            if len(edges) > 1:  # Who enters a node is learned.
                assert of_edges.abs().max() > 1e-6
            assert of_edges.sum().abs() < 1e-6 * gains.abs().max()


def test_channels_and_edges_of_the_paper():
    with torch.device('meta'):
        net = supernet(12, 5, filter_multiplier=8, form='reference')
    assert net.out_channels == [40, 80, 160, 320]
    assert len(net.layers) == 12
    assert len(net.layers[11][3].cell.edges) == num_edges(5) == 20


@pytest.mark.parametrize('options', [dict(num_layers=2), dict(num_blocks=0)])
def test_too_small_a_search(options):
    with pytest.raises(ValueError, match='num_layers >= 3'):
        supernet(**options)


def test_synchronised_norm():
    net = supernet(
        num_layers=3,
        num_blocks=1,
        norm_cfg=dict(type='SyncBN', affine=False),
        form='reference',
    )
    assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in net.modules())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
    net = revert_sync_batchnorm(net)
    assert not any(
        isinstance(m, torch.nn.SyncBatchNorm) for m in net.modules()
    )
    net(torch.randn(2, 3, 33, 33))


def test_norm_has_no_affine_parameters_by_default():
    norms = [
        m for m in supernet().modules() if isinstance(m, torch.nn.BatchNorm2d)
    ]
    assert norms and all(not norm.affine for norm in norms)
