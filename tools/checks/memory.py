"""Look whether the memory of a search grows with its iterations.

Runs a small search_demo.py in this process, with its log, snapshots,
checkpoints and validation, all within the first 20 iterations.
"""

import argparse
import tempfile
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_autodeeplab.cli.measurement import (
    MIB,
    peak_memory,
    settled_memory,
    table,
)

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'autodeeplab'
INTERVAL = 10
WARM_UP = 20


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--iters', type=int, default=300, help='length, a multiple of 10'
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        default=0.02,
        help=f'by how much it may grow after iteration {WARM_UP}',
    )
    return parser.parse_args()


def small_search(work_dir, iters):
    """The demo, small, with everything that recurs in every 10 iterations."""
    cfg = Config.fromfile(CONFIGS / 'search_demo.py')
    loader = dict(num_workers=0, persistent_workers=False)
    shapes = dict(data_root=f'{work_dir}/shapes')
    cfg.merge_from_dict(
        dict(
            work_dir=work_dir,
            model=dict(
                backbone=dict(num_layers=3, num_blocks=1),
                decode_head=dict(in_channels=[4, 8, 16, 32]),
            ),
            train_dataloader=dict(
                batch_size=4, dataset=dict(shapes, num_images=40), **loader
            ),
            val_dataloader=dict(dataset=dict(shapes, num_images=4), **loader),
            train_cfg=dict(max_iters=iters, val_interval=INTERVAL),
            default_hooks=dict(
                logger=dict(interval=1),
                checkpoint=dict(interval=INTERVAL, max_keep_ckpts=2),
            ),
        )
    )
    cfg.custom_hooks[0].update(begin=WARM_UP // 4, interval=INTERVAL)
    cfg.default_hooks.search_visualization.interval = INTERVAL
    return cfg


class MemoryHook(Hook):
    """Write down what is in use, and its peak, every 10 iterations."""

    priority = 'LOWEST'

    def __init__(self):
        self.rows = []

    def before_train(self, runner):
        settled_memory('cpu')

    def after_train_iter(self, runner, *args, **kwargs):
        if self.every_n_train_iters(runner, INTERVAL):
            peak = peak_memory('cpu')
            self.rows.append((runner.iter + 1, settled_memory('cpu'), peak))


def growth(rows):
    """Largest growth after the warm-up, of memory in use and of its peak."""
    start, *later = (row for row in rows if row[0] >= WARM_UP)
    return [
        max((row[column] / start[column] - 1 for row in later), default=0)
        for column in (1, 2)
    ]


def main():
    args = parse_args()
    with tempfile.TemporaryDirectory() as work_dir:
        runner = Runner.from_cfg(small_search(work_dir, args.iters))
        hook = MemoryHook()
        runner.register_hook(hook)
        runner.train()
    print(
        table(
            ('Iteration', 'In use, MiB', 'Peak, MiB'),
            (
                (i, *(f'{n / MIB:.1f}' for n in numbers))
                for i, *numbers in hook.rows
            ),
        )
    )
    histories = runner.message_hub.log_scalars.values()
    kept = sum(array.nbytes for history in histories for array in history.data)
    print(f"MMEngine's histories of the log: {kept / MIB:.2f} MiB")
    in_use, peak = growth(hook.rows)
    print(f'After iteration {WARM_UP}: {in_use:+.2%} in use, {peak:+.2%} peak')
    if max(in_use, peak) > args.tolerance:
        raise SystemExit(f'Error: it grows by more than {args.tolerance:.0%}')


if __name__ == '__main__':
    main()
