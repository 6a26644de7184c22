"""Count the parameters and multiply-adds of the model of a config.

The model runs without data (on torch's meta device), so that any size takes
no time and no memory.
"""

import argparse

from mmseg.registry import MODELS

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.models.complexity import (
    count_multiply_adds,
    count_parameters,
    image_channels,
)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_arguments(parser)
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        default=[1025, 2049],
        metavar=('H', 'W'),
        help='height and width of the image, or one number for both',
    )
    return parser.parse_args()


@cli.user_errors()
def main():
    args = parse_args()
    if len(args.shape) > 2 or min(args.shape) < 1:
        raise UserError(f'--shape takes H W, or one number, not {args.shape}')
    cfg = cli.load_config(args)
    cli.check_keys(cfg, 'model')
    model = MODELS.build(cfg.model)
    shape = image_channels(cfg.model), args.shape[0], args.shape[-1]
    parameters, auxiliary = count_parameters(model)
    multiply_adds = count_multiply_adds(model, *shape)
    print(f'Input: 1 x {" x ".join(map(str, shape))}')
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
