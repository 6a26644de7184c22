"""Measure time and memory of a search, on random images.

The weight half of an iteration is the model's train_step; the architecture
half is the step of ArchSearchHook; data loading, logging and validation are
left out. Each combination of options runs in a process of its own. Times are
medians over all iterations and rounds; peaks are the highest of the rounds,
above the memory of the built model (on the CPU, of the process). "Working" is
the part of a peak above what stays between iterations, like momentum: in the
architecture half, which has no gradients of the weights, the activations.

Multiply-adds per second are those of the convolutions of one forward pass over
the batch, times 3 for the weight half (forward, gradients of the inputs and of
the weights) and times 2 for the architecture half (no gradients of the
weights), divided by the median time. They are counted in the fused form,
whatever form is measured, and checkpointing adds none: with equal sizes, equal
rates mean equal times.
"""

import argparse
import copy
import functools
import inspect
import itertools
import sys

import torch
from mmengine.optim import AmpOptimWrapper
from mmseg.registry import MODELS, OPTIM_WRAPPERS

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.cli import benchmark, measurement
from mmseg_autodeeplab.cli.benchmark import (
    BACKBONE_KEYS,
    FIT_BATCH,
    FIT_CROP,
    KEYS,
    MEMORY,
    compare,
    fit,
    project,
    rows_of,
)
from mmseg_autodeeplab.compat.registry import is_a, resolve
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.files import to_json, write_atomically
from mmseg_autodeeplab.models.complexity import (
    count_multiply_adds,
    image_channels,
)
from mmseg_autodeeplab.models.layers import CELLS
from mmseg_autodeeplab.search.config_text import look_up

SWITCH = dict(off=False, on=True)


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_arguments(parser)
    several = 'one, or several with commas; by default that of the config'
    parser.add_argument('--crop', help=f'height and width, {several}')
    parser.add_argument('--batch', help=f'images per batch, {several}')
    parser.add_argument(
        '--layers', help=f'num_layers of the supernet, {several}'
    )
    parser.add_argument(
        '--form', help=f'{" and ".join(CELLS)} form of the cells, {several}'
    )
    parser.add_argument(
        '--with-cp', help=f'checkpointing of the cells, on and off, {several}'
    )
    parser.add_argument(
        '--half',
        default=','.join(benchmark.HALVES),
        help='halves of the iteration, weights and arch; default: both',
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'])
    parser.add_argument(
        '--iters', type=int, default=5, help='iterations to time'
    )
    parser.add_argument(
        '--warmup', type=int, default=1, help='iterations before those'
    )
    parser.add_argument(
        '--rounds',
        type=int,
        default=1,
        help='how often to go through all combinations',
    )
    parser.add_argument(
        '--amp',
        choices=['none', *benchmark.DTYPES],
        default='none',
        help='mixed precision, on a GPU',
    )
    parser.add_argument(
        '--channels-last', action='store_true', help='memory format'
    )
    parser.add_argument('--threads', type=int, help='threads of the CPU')
    parser.add_argument(
        '--project',
        action='store_true',
        help="duration of the config's whole search, from what was measured",
    )
    parser.add_argument(
        '--fit',
        metavar='GB[,GB]',
        help=f'the largest batch at crop {FIT_CROP}, and the largest crop at '
        f'batch {FIT_BATCH}, whose peak, model included, stays within so '
        'much memory of the GPU (2^30 bytes each; what CUDA itself takes '
        'comes on top)',
    )
    parser.add_argument('--json', metavar='FILE', help='write all numbers')
    return parser.parse_args()


def split(option, text, choices=None, number=int):
    """The values of an option: of the choices, or else positive numbers."""
    values = list(dict.fromkeys(text.split(',')))
    if choices is not None:
        for value in values:
            if value not in choices:
                raise UserError(
                    f'{option} takes {" and ".join(choices)}, one or several '
                    f'with commas, not {value!r}'
                )
        return values
    try:
        values = [number(value) for value in values]
    except ValueError:
        values = []
    if not values or min(values) <= 0:
        raise UserError(
            f'{option} takes positive numbers, one or several with commas, '
            f'not {text!r}'
        )
    return values


def check(args, cfg):
    """Refuse what cannot work before anything is measured."""
    for option, least in dict(iters=1, warmup=0, rounds=1, threads=1).items():
        value = getattr(args, option)
        if value is not None and value < least:
            raise UserError(
                f'--{option} is {value}, but must be at least {least}'
            )
    if args.device == 'cpu':
        if args.fit:
            raise UserError('--fit measures the memory of a GPU: it needs one')
        if args.amp != 'none' or is_a(
            OPTIM_WRAPPERS, cfg.optim_wrapper, AmpOptimWrapper
        ):
            raise UserError(
                'mixed precision (--amp) needs a GPU: measure without it on '
                'the CPU'
            )
    if args.project:
        if set(args.halves) != set(benchmark.HALVES):
            raise UserError('--project needs both halves: leave out --half')
        if 'max_iters' not in (cfg.get('train_cfg') or {}):
            raise UserError(
                f'the config {cfg.filename} has no train_cfg.max_iters, '
                'which --project needs'
            )


def crop_of(cfg):
    """The side of the config's crops, where they are square, or None."""
    size = look_up(cfg, 'model.data_preprocessor.size')
    sides = set(size) if isinstance(size, (list, tuple)) else {size}
    return sides.pop() if len(sides) == 1 else None


def combinations(args, cfg):
    """All combinations of the options, as dicts of ``KEYS``.

    What no option gives is as the config has it; None where the backbone has
    no such setting.
    """
    backbone = cfg.model.backbone
    cls = resolve(MODELS, backbone.type)
    parameters = inspect.signature(cls).parameters
    choices = dict(form=CELLS, with_cp=SWITCH)
    given = dict(
        crop=args.crop or crop_of(cfg),
        batch=args.batch or look_up(cfg, 'train_dataloader.batch_size'),
    )
    values = {}
    for key, value in given.items():
        if value is None:
            raise UserError(
                f'the config {cfg.filename} does not say what --{key} is to '
                f'be: give --{key}'
            )
        values[key] = split(f'--{key}', str(value))
    for key, name in BACKBONE_KEYS.items():
        option = '--' + key.replace('_', '-')
        if getattr(args, key) is None:
            default = getattr(parameters.get(name), 'default', None)
            values[key] = [backbone.get(name, default)]
            if key == 'with_cp':
                values[key] = ['on' if values[key][0] else 'off']
            continue
        values[key] = split(option, getattr(args, key), choices.get(key))
        # "off" is how a backbone without the option works.
        if name not in parameters and values[key] != ['off']:
            raise UserError(
                f'{option} sets {name} of the backbone, but {cls.__name__} '
                'has no such setting'
            )
    return [
        dict(zip(KEYS, case))
        for case in itertools.product(*(values[key] for key in KEYS))
    ]


def configure(cfg, args, case):
    """A copy of the config, with a combination of the options."""
    cfg = copy.deepcopy(cfg)
    backbone = cfg.model.backbone
    for key in ('layers', 'form'):
        if getattr(args, key) is not None:
            backbone[BACKBONE_KEYS[key]] = case[key]
    if args.with_cp is not None:
        backbone.pop('with_cp', None)
        if SWITCH[case['with_cp']]:
            backbone.with_cp = True
    preprocessor = cfg.model.get('data_preprocessor')
    if preprocessor and preprocessor.get('size'):
        # It would fill up to this size.
        preprocessor.size = (case['crop'], case['crop'])
    if args.amp != 'none':
        cli.enable_amp(cfg.optim_wrapper)
        cfg.optim_wrapper.dtype = dict(fp16='float16', bf16='bfloat16')[
            args.amp
        ]
    return cfg


def measure(cfg, args, case, iters, warmup):
    """Measure a combination, in a process of its own."""
    return measurement.isolated(
        benchmark.measure_search,
        configure(cfg, args, case),
        crop=case['crop'],
        batch=case['batch'],
        halves=args.halves,
        device=args.device,
        iters=iters,
        warmup=warmup,
        channels_last=args.channels_last,
    )


def memory_of(cfg, args, case):
    """The peak of a combination in bytes, model included."""
    found = measure(cfg, args, case, iters=0, warmup=1)
    if 'error' in found:
        return float('inf')
    return max(half['built'] + half['peak'] for half in found.values())


def forward_counter(cfg, args):
    """A function: multiply-adds of a combination, for one image."""

    @functools.cache
    def count(layers, crop):
        case = dict(crop=crop, layers=layers, form='fused', with_cp='off')
        changed = configure(cfg, args, case)
        if 'form' in changed.model.backbone:
            changed.model.backbone.form = 'fused'
        model = benchmark.build_model(changed)
        channels = image_channels(changed.model)
        return count_multiply_adds(model, channels, crop, crop)

    return lambda case: count(case['layers'], case['crop'])


def print_rows(rows):
    lines = []
    for row in rows:
        cells = [row[key] for key in (*KEYS, 'half')]
        if 'error' in row:
            lines.append([*cells, row['error'], *[None] * 4])
            continue
        lines.append(
            [
                *cells,
                f'{row["seconds"]:.4g}',
                f'{row["seconds_min"]:.4g}..{row["seconds_max"]:.4g}',
                f'{row["multiply_adds_per_second"] / 1e9:.4g}',
                *(f'{row[key] / measurement.MIB:.1f}' for key in MEMORY),
            ]
        )
    header = [*KEYS, 'half', 'seconds', 'min..max', 'G madds/s']
    header += [f'{key} MiB' for key in MEMORY]
    print(measurement.table(header, lines))


def print_ratios(ratios):
    lines = [
        [
            *(ratio[key] for key in (*KEYS, 'half', 'relative_to')),
            *(
                None if ratio[key] is None else f'{ratio[key]:.3f}'
                for key in ('time', *MEMORY)
            ),
        ]
        for ratio in ratios
    ]
    header = [*KEYS, 'half', 'relative to', 'time', *MEMORY]
    print(f'\nRatios:\n\n{measurement.table(header, lines)}')


@cli.user_errors()
def main():
    args = parse_args()
    cfg = cli.load_config(args)
    cli.check_keys(cfg, 'model', 'optim_wrapper')
    hook = benchmark.search_hook(cfg)
    args.device = benchmark.check_device(args.device)
    args.halves = split('--half', args.half, benchmark.HALVES)
    # In the order of an iteration.
    args.halves.sort(key=list(benchmark.HALVES).index)
    check(args, cfg)
    limits = split('--fit', args.fit, number=float) if args.fit else []
    cases = combinations(args, cfg)
    if args.threads:
        torch.set_num_threads(args.threads)

    where = measurement.environment(args.device)
    found = dict(
        config=cfg.filename,
        **where,
        amp=args.amp,
        channels_last=args.channels_last,
        iters=args.iters,
        warmup=args.warmup,
        rounds=args.rounds,
    )
    described = ', '.join(f'{k} {v}' for k, v in where.items())
    print(described, end='\n\n', flush=True)
    count = forward_counter(cfg, args)
    counts = [count(case) for case in cases]
    rounds = [[] for _ in cases]
    for i in range(args.rounds):
        for case, results in zip(cases, rounds):
            label = ', '.join(f'{k} {v}' for k, v in case.items())
            print(f'Round {i + 1}: {label}', file=sys.stderr)
            results.append(measure(cfg, args, case, args.iters, args.warmup))
    found['rows'] = [
        row
        for case, results, multiply_adds in zip(cases, rounds, counts)
        for row in rows_of(case, results, args.halves, multiply_adds)
    ]
    print_rows(found['rows'])

    found['ratios'] = compare(found['rows'])
    if found['ratios']:
        print_ratios(found['ratios'])
    if args.project:
        begin, end = hook.get('begin', 0), cfg.train_cfg.max_iters
        found['projection'] = project(found['rows'], end, begin)
        print(
            f'\nThe whole search: {end} weight halves and {end - begin} '
            'architecture halves, without loading and validation\n'
        )
        print(
            measurement.table(
                [*KEYS, 'hours'],
                [
                    [*(row[k] for k in KEYS), f'{row["seconds"] / 3600:.2f}']
                    for row in found['projection']
                ],
            )
        )
    if limits:
        found['fit'] = fit(
            cases, limits, functools.partial(memory_of, cfg, args)
        )
        keys = [*BACKBONE_KEYS, 'limit', 'batch', 'crop']
        print('\nWhat fits into the memory of the GPU:\n')
        print(
            measurement.table(
                [
                    *BACKBONE_KEYS,
                    'GB',
                    f'batch at crop {FIT_CROP}',
                    f'crop at batch {FIT_BATCH}',
                ],
                [[row[key] for key in keys] for row in found['fit']],
            )
        )
    if args.json:
        write_atomically(args.json, to_json(found, indent=2) + '\n')


if __name__ == '__main__':
    main()
