"""Search an architecture as a black box: be a worker of a study.

The same command, on any machine that reaches the storage, is another worker.
"""

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from mmengine.registry import init_default_scope

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.files import write_atomically
from mmseg_autodeeplab.search.blackbox import CONFIG_FILE, read_settings
from mmseg_autodeeplab.search.processes import end_with_parent, environments
from mmseg_autodeeplab.search.results import search_hook_config


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_arguments(parser)
    parser.add_argument(
        '--work-dir',
        help='folder of the trials; workers on other machines need the same',
    )
    parser.add_argument(
        '--storage',
        metavar='URL',
        help='postgresql+psycopg://USER@HOST/DATABASE, or of any other server '
        'that Optuna knows; by default a file in the work directory, for the '
        'workers of one machine',
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=1,
        help='of this machine; several GPUs are dealt out to them',
    )
    parser.add_argument(
        '--trials',
        type=int,
        help='to finish, over all workers and calls; by default search.trials',
    )
    return parser.parse_args()


def load(args):
    """The config, checked like that of a training, and its settings."""
    cfg = cli.read_config(args.config, args.cfg_options)
    if not cfg.get('search') and search_hook_config(cfg):
        raise UserError(
            f'{args.config} is the config of a search by gradient, which '
            f'python tools/train.py {args.config} starts'
        )
    if args.workers < 1:
        raise UserError(f'--workers is {args.workers}, but must be 1 or more')
    cfg.work_dir = (
        args.work_dir
        or cfg.get('work_dir')
        or f'work_dirs/{Path(args.config).stem}'
    )
    given = {} if args.trials is None else dict(trials=args.trials)
    settings = read_settings(cfg, **given)
    cli.check_keys(cfg, 'train_dataloader', 'train_cfg', 'val_dataloader')
    cli.check_evaluation(cfg)
    cli.check_amp(cfg)
    cli.check_channels(cfg)
    cli.check_losses(cfg)
    cli.check_data(cfg, 'train', 'val')
    # For what is cached; a training does so itself.
    cli.check_loading(cfg, 'train', 'val')
    cli.check_work_dir(cfg.work_dir)
    return cfg, settings


def start_workers(number):
    """Be the parent of as many workers, each the command for one."""
    workers = [
        subprocess.Popen(
            [sys.executable, *sys.argv, '--workers', '1'],
            env=environment,
            # Signals come from here.
            start_new_session=True,
            preexec_fn=end_with_parent(),
        )
        for environment in environments(number)
    ]

    def pass_on(number, frame):
        for worker in workers:
            worker.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    failed = [worker.wait() for worker in workers]
    if all(failed):
        raise SystemExit(1)


def work(worker):
    """Let a worker work; a first Ctrl-C asks it to stop, a second stops it."""

    def stop(number, frame):
        if worker.stopping:
            raise KeyboardInterrupt
        worker.stopping = True
        print('The running trial is the last; Ctrl-C again stops it now.')

    signal.signal(signal.SIGINT, stop)
    try:
        worker.run()
    except KeyboardInterrupt:
        raise SystemExit(
            'Stopped: the same command goes on with this trial.'
        ) from None


@cli.user_errors()
def main():
    args = parse_args()
    # Several workers may write into one file, which is watched.
    sys.stdout.reconfigure(line_buffering=True)
    init_default_scope('mmseg')
    cfg, settings = load(args)
    # Only these need Optuna.
    from mmseg_autodeeplab.search.blackbox.study import open_study
    from mmseg_autodeeplab.search.blackbox.worker import Worker

    name = Path(args.config).stem
    opened = open_study(name, cfg, settings, cfg.work_dir, args.storage)
    write_atomically(Path(cfg.work_dir, CONFIG_FILE), cfg.pretty_text)
    if args.workers > 1:
        start_workers(args.workers)
    else:
        work(Worker(cfg, settings, *opened, cfg.work_dir))


if __name__ == '__main__':
    main()
