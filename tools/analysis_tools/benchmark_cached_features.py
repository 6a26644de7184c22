"""Measure what cached features save in a trial of a search.

The training of a config with a frozen backbone is timed as it is and on cached
features, iterations and a validation of each, with all that loads and logs.
The cost of a trial is counted from both, for the config's own schedule. Each
runs in a process of its own, as a trial does.
"""

import argparse
import copy
import os.path as osp
import tempfile
import time
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.cli import measurement
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.files import to_json, write_atomically
from mmseg_autodeeplab.search.blackbox.cached_features import cached_config


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_arguments(parser)
    parser.add_argument(
        '--iters', type=int, default=20, help='iterations to time'
    )
    parser.add_argument(
        '--warmup', type=int, default=3, help='iterations before those'
    )
    parser.add_argument(
        '--crops', type=int, default=1, help='cached crops of each image'
    )
    parser.add_argument(
        '--dtype', default='float32', help='float32 or float16, of the cache'
    )
    parser.add_argument(
        '--cache-dir',
        metavar='DIR',
        help='where the cache is, or is written; by default it is removed',
    )
    parser.add_argument(
        '--random-backbone',
        action='store_true',
        help='need no weights: the same time, with features of no use',
    )
    parser.add_argument('--json', metavar='FILE', help='write all numbers')
    return parser.parse_args()


class Clock(Hook):
    """Take the time and the processor time of iterations and validations.

    The latter, of this process, does not grow where others run beside it.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.losses, self.ends, self.validations = [], [], []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs) -> None:
        """From the end of one iteration to that of the next."""
        self.losses.append(float(outputs['loss']))
        self.ends.append(now())

    def before_val(self, runner) -> None:
        """A validation begins."""
        self.begin = now()

    def after_val(self, runner) -> None:
        """And ends."""
        self.validations.append(now() - self.begin)


def now():
    return np.array([time.perf_counter(), time.process_time()])


def measure(cfg, warmup):
    """Train a config, and return its losses and its times in seconds."""
    MMLogger.get_current_instance().setLevel('ERROR')
    clock = Clock()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(clock, 'LOWEST')
    runner.train()
    iterations = np.diff(clock.ends[warmup:], axis=0)
    return dict(
        losses=clock.losses,
        samples=iterations.tolist(),
        iteration=np.median(iterations, axis=0).tolist(),
        validation=clock.validations[-1].tolist(),
    )


def write_cache(cfg, folder, crops, dtype):
    """Return a config on cached features, and how long these took."""
    begin = time.perf_counter()
    cached = cached_config(cfg, folder, crops, dtype)
    return dict(config=cached, seconds=time.perf_counter() - begin)


def isolated(function, *args):
    """What a function returns in a process of its own."""
    found = measurement.isolated(function, *args)
    if 'error' in found:
        raise UserError(
            f'{function.__name__} ended with: {found["error"]}; free some '
            'memory, or measure with smaller crops'
        )
    return found


def size_of(folder):
    return sum(f.stat().st_size for f in Path(folder).rglob('*.pth'))


def shorten(cfg, iters, work_dir):
    """A copy of the config, of so many iterations and one validation."""
    cfg = copy.deepcopy(cfg)
    for key in ('search', 'retrain'):
        cfg.pop(key, None)
    cfg.train_cfg.update(max_iters=iters, val_interval=iters)
    cfg.update(work_dir=work_dir, visualizer=None)
    cfg.default_hooks.checkpoint = None
    return cfg


def forget_weights(cfg):
    cfg.update(load_from=None)
    cfg.model.pretrained = None
    backbone = cfg.model.backbone
    for part in (backbone, backbone.get('backbone', {})):
        part.pop('init_cfg', None)


@cli.user_errors()
def main():
    args = parse_args()
    if args.iters < 1 or args.warmup < 1:
        raise UserError('--iters and --warmup must be 1 or more')
    cfg = cli.load_config(args)
    cli.check_keys(cfg, 'train_dataloader', 'train_cfg', 'optim_wrapper')
    cli.check_data(cfg, 'train', 'val')
    if args.random_backbone:
        forget_weights(cfg)
    schedule = cfg.train_cfg
    with tempfile.TemporaryDirectory() as folder:
        short = shorten(cfg, args.warmup + args.iters + 1, folder)
        cache_dir = args.cache_dir or osp.join(folder, 'cache')
        cache = isolated(write_cache, short, cache_dir, args.crops, args.dtype)
        found = dict(
            config=cfg.filename,
            **measurement.environment('cpu'),
            crops=args.crops,
            dtype=args.dtype,
            cache_seconds=cache['seconds'],
            cache_bytes=size_of(cache_dir),
            uncached=isolated(measure, short, args.warmup),
            cached=isolated(measure, cache['config'], args.warmup),
        )
    rows = []
    count = len(range(0, schedule.max_iters, schedule.val_interval))
    for name in ('uncached', 'cached'):
        one = found[name]
        pairs = zip(one['iteration'], one['validation'])
        one['trial'] = [schedule.max_iters * i + count * v for i, v in pairs]
        for k, clock in enumerate(('wall', 'processor')):
            cells = [
                f'{one[key][k]:.4g}' for key in ('iteration', 'validation')
            ]
            rows.append([name, clock, *cells, f'{one["trial"][k] / 60:.3g}'])
    header = ['training', 'clock', 'iteration (s)', 'validation (s)']
    header.append(f'trial of {schedule.max_iters} iterations (min)')
    print(measurement.table(header, rows))
    print(
        f'\nThe cache: {cache["seconds"]:.3g} s once, '
        f'{found["cache_bytes"] / 2**20:.4g} MiB, {args.dtype}'
    )
    if args.json:
        write_atomically(args.json, to_json(found, indent=2) + '\n')


if __name__ == '__main__':
    main()
