"""Compiled cells against the same cells uncompiled."""

import copy
import subprocess
import sys

import pytest
import torch
from mmseg.registry import MODELS

from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.models.layers import (
    NotCompiledWarning,
    RelaxedNode,
    compile_in_place,
)


class Compiler:
    """A backend of ``torch.compile`` that counts its programs."""

    def __init__(self, name='eager'):
        from torch._dynamo import lookup_backend

        self.programs = 0
        self.compile = lookup_backend(name)

    def __call__(self, graph, inputs):
        self.programs += 1
        return self.compile(graph, inputs)


@pytest.fixture(autouse=True)
def nothing_compiled_yet():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def supernet(**kwargs):
    torch.manual_seed(0)
    net = MODELS.build(
        dict(
            type='AutoDeepLabSupernet',
            num_layers=3,
            num_blocks=1,
            filter_multiplier=2,
            stem_channels=4,
            **kwargs,
        )
    ).double()
    for p in net.arch_parameters():
        p.data = torch.randn_like(p)
    return net


def node(form='fused', num_blocks=1, **compile_cfg):
    """A node whose cell reads two scales and the output before."""
    torch.manual_seed(0)
    found = RelaxedNode(
        [4, 4], [1, 0], 4, 4, num_blocks, dict(type='BN'), True, form, 1
    ).double()
    if compile_cfg:
        compile_in_place(found.cell, **compile_cfg)
    return found


def run_node(node, arch):
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.double)

    alphas, betas = draw(5, 8).softmax(-1), draw(2).softmax(-1)
    return half(
        node,
        [alphas, betas],
        arch,
        [draw(2, 4, 33, 33), draw(2, 4, 17, 17)],
        draw(2, 4, 17, 17),
        alphas,
        betas,
        (17, 17),
    )


def run_supernet(net, arch):
    x = torch.randn(2, 3, 33, 33, dtype=torch.double)
    return half(net, net.arch_parameters(), arch, x)


def half(module, arch_parameters, arch, *args):
    """Outputs, gradients and statistics of half an iteration of a search."""
    module.requires_grad_(not arch)
    for p in arch_parameters:
        p.requires_grad_(arch)
    leaves = arch_parameters if arch else list(module.parameters())
    leaves = [p for p in leaves if p.requires_grad]
    outs = module(*args)
    outs = list(outs) if isinstance(outs, tuple) else [outs]
    loss = sum(out.square().mean() for out in outs)
    grads = torch.autograd.grad(loss, leaves)
    return [*outs, *grads, *(b.clone() for b in module.buffers())]


def check_equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_supernet_with_compiled_cells():
    compiler = Compiler()
    cfg = dict(backend=compiler)
    programs = []
    for with_cp in (False, True):
        plain = supernet(with_cp=with_cp)
        net = supernet(with_cp=with_cp, compile_cfg=cfg)
        assert list(net.state_dict()) == list(plain.state_dict())
        for iteration in range(2):
            for arch in (False, True):
                torch.manual_seed(iteration)
                found = run_supernet(net, arch)
                torch.manual_seed(iteration)
                check_equal(found, run_supernet(plain, arch))
                programs.append(compiler.programs)
    # The nine cells have eight geometries; in the architecture half two cells
    # of one geometry differ, as the stem wants no gradient then. That is more
    # than PyTorch makes room for. Nothing is compiled again, not even where
    # backward runs cells anew.
    assert programs == [8] + [17] * 7


@pytest.mark.parametrize('case', [('fused', 2), ('reference', 1)])
def test_gradients_that_are_compiled(case):
    compiler = Compiler('aot_eager')
    plain, compiled = node(*case), node(*case, backend=compiler)
    for arch in (False, True):
        check_equal(run_node(compiled, arch), run_node(plain, arch))
    assert compiler.programs == 2


def raises(graph, inputs):
    raise NotImplementedError('not on this machine')


def only_forward(graph, inputs):
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    if not hasattr(
        torch._functorch.config, 'force_non_lazy_backward_lowering'
    ):
        pytest.skip('this PyTorch compiles the gradient in backward')
    return aot_autograd(
        fw_compiler=lambda graph, inputs: make_boxed_func(graph.forward),
        bw_compiler=raises,
    )(graph, inputs)


@pytest.mark.parametrize('backend', [raises, only_forward])
def test_what_cannot_be_compiled_runs_all_the_same(backend):
    attempts = []

    def compiler(graph, inputs):
        attempts.append(graph)
        return backend(graph, inputs)

    plain, compiled = node(), node(backend=compiler)
    with pytest.warns(NotCompiledWarning, match='not on this machine'):
        found = run_node(compiled, False)
    check_equal(found, run_node(plain, False))
    check_equal(run_node(compiled, True), run_node(plain, True))
    assert len(attempts) == 1


def test_copies_and_evaluation_are_not_compiled():
    compiler = Compiler()
    net = supernet(compile_cfg=dict(backend=compiler))
    ema, plain = copy.deepcopy(net), supernet()
    for p in net.parameters():
        p.data.zero_()
    torch.manual_seed(1)
    found = run_supernet(ema, False)
    torch.manual_seed(1)
    check_equal(found, run_supernet(plain, False))
    net.eval()(torch.randn(1, 3, 65, 33, dtype=torch.double))
    assert compiler.programs == 0


@pytest.mark.parametrize(
    'cfg', [dict(backend='nope'), dict(mode='nope'), dict(nope=True)]
)
def test_what_torch_compile_does_not_take(cfg):
    with pytest.raises(UserError, match=r'torch\.compile does not take.*nope'):
        compile_in_place(torch.nn.Identity(), **cfg)


def test_the_compiler_is_imported_where_it_is_used():
    code = """
import sys, torch
from mmseg_autodeeplab.models.backbones import AutoDeepLabSupernet
net = AutoDeepLabSupernet(3, 1, 1)
sum(out.sum() for out in net(torch.randn(1, 3, 33, 33))).backward()
assert 'torch._dynamo' not in sys.modules
"""
    subprocess.run([sys.executable, '-c', code], check=True)
