"""Measure time and memory of inference, for one config or several.

What is measured is the forward pass up to the logits, on random images,
without preprocessing and without resizing the result. Each config runs in a
process of its own. Times are medians over batches; peaks are above the memory
of the built model (on the CPU, of the process). Multiply-adds are those of the
convolutions, for one image.
"""

import argparse
import os.path as osp

import torch
from mmengine.hub import get_config

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.cli import benchmark, measurement
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.files import to_json, write_atomically
from mmseg_autodeeplab.models.complexity import image_channels


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'configs',
        nargs='+',
        metavar='CONFIG',
        help='config file, or one of an installed package, as '
        'mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py',
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        default=[1025, 2049],
        metavar=('H', 'W'),
        help='height and width of the images, or one number for both',
    )
    parser.add_argument(
        '--batch', type=int, default=1, help='images per batch'
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'])
    parser.add_argument('--iters', type=int, default=5, help='passes to time')
    parser.add_argument(
        '--warmup', type=int, default=1, help='passes before those'
    )
    parser.add_argument('--threads', type=int, help='threads of the CPU')
    parser.add_argument(
        '--amp',
        choices=['none', *benchmark.DTYPES],
        default='none',
        help='mixed precision; fp16 on a GPU only',
    )
    parser.add_argument('--json', metavar='FILE', help='write all numbers')
    return parser.parse_args()


def load(path):
    """A config file, or ``package::config`` of an installed package."""
    if '::' not in path:
        args = argparse.Namespace(config=path, cfg_options={})
        cfg = cli.load_config(args)
    else:
        package = path.partition('::')[0]
        if package != 'mmseg':
            # MMEngine would install it.
            raise UserError(
                f'{path} is a config of {package}, but only those of mmseg '
                'are read by package'
            )
        try:
            cfg = get_config(path)
        except Exception as error:  # A config is code: anything goes wrong.
            raise UserError(
                f'cannot read the config {path}: '
                f'{type(error).__name__}: {error}'
            ) from error
    cli.check_keys(cfg, 'model')
    return cfg


def check(args):
    """Refuse what cannot work before anything is measured."""
    if len(args.shape) > 2 or min(args.shape) < 1:
        raise UserError(f'--shape takes H W, or one number, not {args.shape}')
    for option, least in dict(batch=1, iters=1, warmup=0, threads=1).items():
        value = getattr(args, option)
        if value is not None and value < least:
            raise UserError(
                f'--{option} is {value}, but must be at least {least}'
            )
    if args.amp == 'fp16' and args.device == 'cpu':
        raise UserError('--amp fp16 needs a GPU: take bf16 on the CPU')


def measure(path, cfg, args, shape):
    """The row of a config; one that has ``error`` has no numbers."""
    name = osp.splitext(osp.basename(path))[0]
    try:
        found = measurement.isolated(
            benchmark.measure_inference,
            cfg,
            shape=shape,
            batch=args.batch,
            device=args.device,
            iters=args.iters,
            warmup=args.warmup,
            amp=args.amp,
        )
    except AssertionError as error:  # Most often: not of this size.
        raise UserError(f'{path} fails on such images: {error}') from error
    if 'error' in found:
        return dict(config=name, **found)
    row = dict(found, config=name, **measurement.spread(found.pop('samples')))
    row['images_per_second'] = args.batch / row['seconds']
    row['multiply_adds_per_second'] = (
        row['multiply_adds'] * row['images_per_second']
    )
    return row


def print_rows(rows):
    lines = []
    for row in rows:
        if 'error' in row:
            failed = [row['config'], None, None, row['error']]
            lines.append(failed + [None] * 4)
            continue
        lines.append(
            [
                row['config'],
                f'{row["parameters"] / 1e6:.2f}',
                f'{row["multiply_adds"] / 1e9:.2f}',
                f'{row["seconds"]:.4g}',
                f'{row["seconds_min"]:.4g}..{row["seconds_max"]:.4g}',
                f'{row["images_per_second"]:.4g}',
                f'{row["multiply_adds_per_second"] / 1e9:.4g}',
                f'{row["peak"] / measurement.MIB:.1f}',
            ]
        )
    header = ['config', 'M params', 'G madds', 'seconds', 'min..max']
    header += ['images/s', 'G madds/s', 'peak MiB']
    print(measurement.table(header, lines))


@cli.user_errors()
def main():
    args = parse_args()
    args.device = benchmark.check_device(args.device)
    check(args)
    configs = {path: load(path) for path in args.configs}
    shape = (args.shape[0], args.shape[-1])
    if args.threads:
        torch.set_num_threads(args.threads)
    where = measurement.environment(args.device)
    channels = {image_channels(cfg.model) for cfg in configs.values()}
    sides = args.batch, '/'.join(map(str, sorted(channels))), *shape
    print(
        f'{", ".join(f"{k} {v}" for k, v in where.items())}\n'
        f'Input: {" x ".join(map(str, sides))}, amp {args.amp}\n'
    )
    rows = [measure(path, cfg, args, shape) for path, cfg in configs.items()]
    print_rows(rows)
    if args.json:
        found = dict(
            **where,
            shape=shape,
            batch=args.batch,
            amp=args.amp,
            iters=args.iters,
            warmup=args.warmup,
            rows=rows,
        )
        write_atomically(args.json, to_json(found, indent=2) + '\n')


if __name__ == '__main__':
    main()
