"""Compare the forms of the supernet in single precision, on random images.

Beside them stands what single precision does to the reference form alone:
against itself with convolutions that sum up in another order (oneDNN switched
off), and against double precision. Where a rounding carries a value over the
kink of a ReLU, or changes a maximum, gradients differ by far more than
roundings do, in any of these.
"""

import argparse
import copy
import statistics
import warnings

import torch
from mmengine.registry import init_default_scope
from torch import nn

import mmseg_autodeeplab  # noqa: F401  # isort: skip
from mmseg.registry import MODELS

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.cli.measurement import table

PAIRS = (
    ('fused', 'reference'),
    ('other order', 'reference'),
    ('fused', 'double'),
    ('reference', 'double'),
)


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--layers', type=int, default=12)
    parser.add_argument('--blocks', type=int, default=5)
    parser.add_argument('--filter-multiplier', type=int, default=8)
    parser.add_argument('--crop', type=int, default=64)
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument(
        '--seeds', type=int, default=1, help='how many random batches'
    )
    parser.add_argument(
        '--bound',
        type=float,
        default=1e-4,
        help='count the weights whose gradient differs by more, relative to '
        'its length',
    )
    return parser.parse_args()


def build(args):
    """The same network four times, in training mode, ready for gradients."""

    def supernet(form):
        return MODELS.build(
            dict(
                type='AutoDeepLabSupernet',
                num_layers=args.layers,
                num_blocks=args.blocks,
                filter_multiplier=args.filter_multiplier,
                form=form,
            )
        )

    torch.manual_seed(0)
    reference, fused = supernet('reference'), supernet('fused')
    for param in reference.arch_parameters():
        nn.init.normal_(param.requires_grad_(True))
    fused.load_state_dict(reference.state_dict())
    for param in fused.arch_parameters():
        param.requires_grad_(True)
    return {
        'reference': reference,
        'other order': copy.deepcopy(reference),
        'fused': fused,
        'double': copy.deepcopy(reference).double(),
    }


def run(net, x):
    """Outputs, and the gradients of their mean in random directions."""
    net.zero_grad()
    outs = net(x)
    generator = torch.Generator().manual_seed(0)
    # The same directions in any precision.
    directions = [
        torch.randn(out.shape, generator=generator, dtype=torch.double)
        for out in outs
    ]
    sum(
        (out * direction.to(out.dtype)).mean()
        for out, direction in zip(outs, directions)
    ).backward()
    return [out.detach() for out in outs], gradients(net)


def gradients(net):
    """By the keys of the state dict, which both forms share."""
    twin = copy.deepcopy(net)
    for copied, param in zip(twin.parameters(), net.parameters()):
        copied.data = param.grad
    statistics_of_norms = (
        'running_mean',
        'running_var',
        'num_batches_tracked',
    )
    return {
        key: value
        for key, value in twin.state_dict().items()
        if not key.endswith(statistics_of_norms)
    }


def distance(found, expected):
    """Relative to the length of what is expected."""
    found, expected = found.double(), expected.double()
    difference = (found - expected).norm()
    return float(difference / expected.norm()) if difference else 0.0


def compare(found, expected, bound):
    """Cells of the table for two results of :func:`run`."""
    outs, grads = found
    expected_outs, expected_grads = expected
    errors = [
        distance(grads[key], grad) for key, grad in expected_grads.items()
    ]
    many = sum(error > bound for error in errors)
    return [
        f'{max(map(distance, outs, expected_outs)):.1e}',
        f'{statistics.median(errors):.1e}',
        f'{max(errors):.1e}',
        f'{many} of {len(errors)}',
    ]


@cli.user_errors()
def main():
    args = parse_args()
    # PyTorch's, of its own switch for oneDNN.
    warnings.filterwarnings('ignore', 'TF32 acceleration')
    init_default_scope('mmseg')
    nets = build(args)
    rows = []
    for seed in range(args.seeds):
        torch.manual_seed(seed)
        x = torch.randn(args.batch, 3, args.crop, args.crop)
        results = {}
        for name, net in nets.items():
            with torch.backends.mkldnn.flags(enabled=name != 'other order'):
                results[name] = run(net, x.to(net.alphas.dtype))
        for name, other in PAIRS:
            cells = compare(results[name], results[other], args.bound)
            rows.append([seed, f'{name} / {other}', *cells])
    header = ('Seed', 'Compared', 'Outputs', 'Gradients, median', 'Worst')
    print(table((*header, f'Above {args.bound:g}'), rows))


if __name__ == '__main__':
    main()
