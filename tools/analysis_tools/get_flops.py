"""Count the parameters and multiply-adds of the model of a config.

The model runs without data (on torch's meta device), so that any size takes
no time and no memory.
"""

import argparse

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch.utils.flop_counter import FlopCounterMode

from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.utils import cli


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_config_arguments(parser)
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        default=[1025, 2049],
        metavar=('H', 'W'),
        help='height and width of the image, or one number for both',
    )
    return parser.parse_args()


def count_parameters(model):
    """Parameters at inference, and those of training only.

    Args:
        model (nn.Module): A segmentor.

    Returns:
        tuple[int, int]: All parameters but those of auxiliary heads, and
        those of the auxiliary heads.
    """
    auxiliary = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name.startswith('auxiliary_head.')
    )
    return sum(p.numel() for p in model.parameters()) - auxiliary, auxiliary


def count_multiply_adds(model, height, width):
    """Multiply-adds of the convolutions, for one image.

    Args:
        model (nn.Module): A segmentor. It is moved to the meta device.
        height (int): Height of the image.
        width (int): Width of the image.

    Returns:
        int: Multiply-adds; normalisation, pooling, resizing and the like
        are not counted.
    """
    model = revert_sync_batchnorm(model).eval().to('meta')
    image = torch.empty(1, 3, height, width, device='meta')
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(image, mode='tensor')
    flops = counter.get_flop_counts().get('Global', {})
    return flops.get(torch.ops.aten.convolution, 0) // 2


@cli.user_errors()
def main():
    args = parse_args()
    if len(args.shape) > 2 or min(args.shape) < 1:
        raise UserError(f'--shape takes H W, or one number, not {args.shape}')
    cfg = cli.load_config(args)
    cli.check_keys(cfg, 'model')
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    model = MODELS.build(cfg.model)
    height, width = args.shape[0], args.shape[-1]
    parameters, auxiliary = count_parameters(model)
    multiply_adds = count_multiply_adds(model, height, width)
    print(f'Input: 1 x 3 x {height} x {width}')
    print(f'Parameters: {parameters / 1e6:.2f} M ({parameters})')
    if auxiliary:
        print(
            f'Auxiliary heads, in training only: {auxiliary / 1e6:.2f} M '
            f'({auxiliary}) more parameters, no multiply-adds counted'
        )
    print(
        f'Multiply-adds: {multiply_adds / 1e9:.2f} G ({multiply_adds}), of '
        'convolutions only'
    )


if __name__ == '__main__':
    main()
