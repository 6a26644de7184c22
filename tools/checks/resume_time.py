"""Measure how long a resume takes, early in a search and late in it.

The demo search runs for a few iterations. Its checkpoint is resumed as it is,
and with the iteration of a late one in all the places that tell it: the
weights stay, and where in the data the run goes on is what a late checkpoint
would say. Measured is the time from the start of the loop to the first
iteration: in pairs, each resume in a process of its own.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_autodeeplab.cli.measurement import isolated, table

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'autodeeplab'


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--iterations',
        type=int,
        nargs=2,
        default=[3, 3000],
        metavar=('EARLY', 'LATE'),
        help='where the two resumed runs stopped',
    )
    parser.add_argument('--pairs', type=int, default=3)
    parser.add_argument('--workers', type=int, default=1)
    return parser.parse_args()


def demo(folder, iterations, workers):
    """The demo search, the architecture from the first iteration on."""
    cfg = Config.fromfile(CONFIGS / 'search_demo.py')
    cfg.work_dir = f'{folder}/work'
    cfg.custom_hooks[0].begin = 0
    cfg.train_cfg.update(max_iters=iterations, val_interval=10 * iterations)
    cfg.default_hooks.checkpoint.interval = iterations
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=workers, persistent_workers=workers > 0)
        loader.dataset.data_root = f'{folder}/shapes'
    return cfg


def move(source, target, iteration):
    """Make of a checkpoint one of a later iteration."""
    checkpoint = torch.load(source, weights_only=False)
    times = iteration // checkpoint['meta']['iter']
    checkpoint['meta']['iter'] = iteration
    info = checkpoint['message_hub']['runtime_info']
    info['seeded_loop']['position'] *= times
    checkpoint['arch_search']['position'] *= times
    torch.save(checkpoint, target)


class FirstIterationHook(Hook):
    """Take the time from the start of the loop to its first iteration."""

    priority = 'VERY_HIGH'

    def before_train(self, runner):
        self.start = time.perf_counter()

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seconds = time.perf_counter() - self.start


def resume(folder, file, iteration, workers):
    """Resume for one iteration."""
    cfg = demo(folder, iteration + 1, workers)
    cfg.update(resume=True, load_from=file, log_level='ERROR')
    cfg.work_dir = f'{folder}/resumed'
    runner = Runner.from_cfg(cfg)
    hook = FirstIterationHook()
    runner.register_hook(hook)
    runner.train()
    return dict(seconds=hook.seconds)


def main():
    args = parse_args()
    early, late = args.iterations
    with tempfile.TemporaryDirectory() as folder:
        Runner.from_cfg(demo(folder, early, args.workers)).train()
        files = {
            early: f'{folder}/work/iter_{early}.pth',
            late: f'{folder}/late.pth',
        }
        move(files[early], files[late], late)
        found = {iteration: [] for iteration in files}
        for _ in range(args.pairs):
            for iteration, file in files.items():
                row = isolated(resume, folder, file, iteration, args.workers)
                found[iteration].append(row['seconds'])
    print(
        table(
            ('Resumed at', 'Median, s', 'All, s'),
            [
                (
                    iteration,
                    f'{statistics.median(times):.2f}',
                    ' '.join(f'{seconds:.2f}' for seconds in times),
                )
                for iteration, times in found.items()
            ],
        )
    )


if __name__ == '__main__':
    main()
