"""Train, or search, as a config says."""

import argparse

from mmengine.runner import Runner

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.engine import check_ends, watch_resume


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_arguments(parser, run=True)
    parser.add_argument(
        '--resume',
        action='store_true',
        help='resume from the newest intact checkpoint in the work dir; '
        'from another one: --cfg-options resume=True load_from=FILE',
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
    check_ends(cfg, 'train', 'val')
    if args.amp:
        cli.enable_amp(cfg.optim_wrapper)
    cli.check_amp(cfg)
    cli.check_channels(cfg)
    cli.check_losses(cfg)
    cli.check_data(cfg, 'train', 'val')
    cli.check_loading(cfg, 'train', 'val')
    if cfg.get('load_from'):
        cli.read_checkpoint(cfg.load_from, bare=True)
    notices = cli.open_work_dir(cfg, args.resume)
    cli.start_processes(cfg)
    runner = Runner.from_cfg(cfg)
    watch_resume(runner)
    for notice in notices:
        runner.logger.info(notice)
    runner.train()


if __name__ == '__main__':
    main()
