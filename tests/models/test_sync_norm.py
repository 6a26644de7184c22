"""Two gloo processes with SyncBN, one with BN on both batches."""

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from torch import nn

from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.models.layers.fused_cell import FusedRelaxedCell


class SyncBatchNorm(nn.Module):
    """What ``sync_bn='mmcv'`` makes of a norm: by its name, no subclass."""

    def __init__(self, norm):
        super().__init__()
        self.eps, self.momentum = norm.eps, norm.momentum
        self.affine = norm.affine
        for name in ('weight', 'bias'):
            self.register_parameter(name, getattr(norm, name))
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)


class BatchNormOfItsOwn(nn.BatchNorm2d):
    """Normalises in a way that the fused form knows nothing of."""


def cell(norm, affine):
    torch.manual_seed(0)
    return FusedRelaxedCell(
        channels=4,
        num_blocks=2,
        num_scales=2,
        has_prev=True,
        norm_cfg=dict(type=norm, affine=affine, momentum=0.3),
        partial_channels=1,
    ).double()


def run(cell, rows):
    """Outputs, gradients and statistics of a loss on these images."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.double)

    if cell.norm.affine:
        for p in (cell.norm.weight, cell.norm.bias):
            p.data = draw(*p.shape)
    # Batches that differ in mean and spread.
    images = draw(3, 4, 4, 7, 6) * (1 + torch.arange(4.0).view(-1, 1, 1, 1))
    images = images + 3 * torch.arange(4).view(-1, 1, 1, 1)
    weights, betas, target = draw(5, 8), draw(2), draw(4, 8, 7, 6)
    first, second, prev = leaves = [
        image[rows].clone().requires_grad_() for image in images
    ]
    for shares in (weights, betas):
        shares.requires_grad_()
    out = cell([first, second], prev, weights, betas.unbind())
    (out * target[rows]).sum().backward()
    return dict(
        outs=[out.detach()],
        leaves=[leaf.grad for leaf in leaves],
        parameters=[p.grad for p in (weights, betas, *cell.parameters())],
        statistics=list(cell.buffers()),
    )


def work(rank):
    # Not halves: a rank may have fewer images than another.
    rows = slice(0, 1) if rank == 0 else slice(1, 4)
    results = {}
    for affine in (False, True):
        converted = cell('BN', affine)
        converted.norm = SyncBatchNorm(converted.norm)
        results['mmcv', affine] = run(converted, rows)
        results['torch', affine] = run(cell('SyncBN', affine), rows)
    return results


@pytest.fixture(scope='module')
def ranks(two_ranks):
    return two_ranks.run(work)


@pytest.mark.run
@pytest.mark.parametrize('affine', [False, True])
@pytest.mark.parametrize('kind', ['torch', 'mmcv'])
def test_two_ranks_are_one_process_with_both_batches(ranks, affine, kind):
    expected = run(cell('BN', affine), slice(None))
    first, second = (results[kind, affine] for results in ranks)

    def close(found, key):
        torch.testing.assert_close(found, expected[key], rtol=0, atol=1e-10)

    for key in ('outs', 'leaves'):
        close([torch.cat(pair) for pair in zip(first[key], second[key])], key)
    # Of each rank's own loss: reduced by whoever reduces all gradients.
    close(
        [a + b for a, b in zip(first['parameters'], second['parameters'])],
        'parameters',
    )
    for rank in (first, second):
        close(rank['statistics'], 'statistics')


def test_it_is_plain_where_there_is_one_process():
    expected = run(cell('BN', True), slice(None))
    for synchronised in (
        cell('SyncBN', True),
        revert_sync_batchnorm(cell('SyncBN', True)),
    ):
        torch.testing.assert_close(
            run(synchronised, slice(None)), expected, rtol=0, atol=0
        )


def test_another_norm_is_refused():
    with pytest.raises(UserError, match='type BN or SyncBN .*OfItsOwn'):
        cell(BatchNormOfItsOwn, True)
