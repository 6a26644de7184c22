"""Compare what a search by gradient finds with random architectures.

Searches over seeds, draws random architectures of the same space, retrains
all by one config, tests, and writes comparison.json, .md and .svg. It can be
stopped at any time: the same command goes on.
"""

import argparse

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.cli.comparison import Comparison
from mmseg_autodeeplab.compat.registry import named
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.files import to_json, write_atomically
from mmseg_autodeeplab.search import retrain_config
from mmseg_autodeeplab.search.results import search_hook_config
from mmseg_autodeeplab.visualization import render
from mmseg_autodeeplab.visualization.comparison import (
    PARTS,
    comparison_tables,
    draw_comparison,
)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_arguments(parser)
    parser.add_argument(
        '--searches', type=int, default=3, help='with seeds from 0 on'
    )
    parser.add_argument(
        '--random', type=int, default=12, help='how many random networks'
    )
    parser.add_argument(
        '--retrainings',
        type=int,
        default=1,
        help='of each network, with seeds from 0 on; their mean counts',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='how many at the same time; several GPUs are dealt out to them',
    )
    parser.add_argument(
        '--within',
        type=float,
        metavar='SHARE',
        help='let the multiply-adds of random networks be at most this share, '
        'such as 0.25, below or above those of the searched ones',
    )
    parser.add_argument(
        '--decode',
        default='',
        metavar='OPTIONS',
        help='of tools/decode.py, for the searches, as one argument with an '
        'equals sign: --decode="--rescore 10"',
    )
    parser.add_argument(
        '--one-hot',
        type=int,
        default=8,
        metavar='BATCHES',
        help='of part B, on which each random architecture is evaluated in '
        'each supernet; none with 0',
    )
    parser.add_argument(
        '--metric', default='mIoU', help='of validation and test'
    )
    parser.add_argument(
        '--work-dir', help='folder of all; by default work_dirs/compare_CONFIG'
    )
    return parser.parse_args()


def load(args):
    """The config, and the space that it searches."""
    least = dict(searches=1, random=1, retrainings=1, jobs=1, one_hot=0)
    for name, value in dict(least, within=0).items():
        if (given := getattr(args, name)) is not None and given < value:
            option = name.replace('_', '-')
            raise UserError(
                f'--{option} is {given}, but must be {value} or more'
            )
    init_default_scope('mmseg')
    cfg = cli.read_config(args.config, args.cfg_options)
    if search_hook_config(cfg) is None:
        raise UserError(
            f'{args.config} is not the config of a search by gradient, since '
            'it has no ArchSearchHook: give one such as '
            'configs/autodeeplab/search_demo.py'
        )
    cli.check_keys(cfg, 'val_dataloader')
    search = Config(named(cfg.to_dict()))
    space = MODELS.build(cfg.model).backbone.architecture().space()
    retrained, _ = retrain_config(search, space.random(0))
    for part in PARTS:
        if retrained.get(f'{part}_dataloader') is None:
            raise UserError(
                f'{args.config} gives no {part}_dataloader to its retraining, '
                'by which networks are compared: add one'
            )
    return search, space


@cli.user_errors()
def main():
    args = parse_args()
    search, space = load(args)
    comparison = Comparison(args, search)
    comparison.claim()
    try:
        networks, statistics = comparison.compare(space)
    except KeyboardInterrupt:
        raise SystemExit('Stopped: the same command goes on.') from None
    tables = comparison_tables(networks, statistics, args.metric)
    values = comparison.values(networks)
    figure = draw_comparison(values, args.metric)
    found = dict(settings=vars(args), networks=networks, statistics=statistics)
    for name, content in {
        'json': to_json(found, indent=2) + '\n',
        'md': f'# Comparison: {args.config}\n\n{tables}',
        'svg': render(figure, 'svg'),
    }.items():
        write_atomically(comparison.place(f'comparison.{name}'), content)
    print(f'{tables}\nWritten: {comparison.place("comparison.*")}')


if __name__ == '__main__':
    main()
