"""Train, or search, as a config says."""

import argparse

from mmengine.device import get_device
from mmengine.runner import Runner

from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.utils import cli


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_config_arguments(parser)
    cli.add_runner_arguments(parser)
    parser.add_argument(
        '--resume',
        action='store_true',
        help='resume from the latest checkpoint in the work dir',
    )
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision'
    )
    return parser.parse_args()


@cli.user_errors()
def main():
    args = parse_args()
    cfg = cli.load_config(args)
    cli.check_keys(cfg, 'train_dataloader', 'train_cfg', 'optim_wrapper')
    cli.check_evaluation(cfg)
    if args.amp:
        cli.enable_amp(cfg.optim_wrapper)
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper' and get_device() in (
        'cpu',
        'mps',
    ):
        raise UserError(
            'mixed precision (--amp) needs a GPU, and none is '
            'available: train without it'
        )
    cli.check_data(cfg, 'train', 'val')
    if cfg.get('load_from'):
        cli.load_weights(cfg.load_from)
    cli.check_work_dir(cfg.work_dir)
    cfg.resume = args.resume or cfg.get('resume', False)
    cli.start_processes(cfg)
    Runner.from_cfg(cfg).train()


if __name__ == '__main__':
    main()
