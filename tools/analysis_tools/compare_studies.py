"""Compare black-box searches, such as two samplers with as many trials.

Writes a table, their rewards as JSON, and a picture of these over the trials.
"""

import argparse
import os.path as osp

import numpy as np

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.files import to_json, write_atomically
from mmseg_autodeeplab.search.blackbox import CONFIG_FILE, read_results
from mmseg_autodeeplab.search.comparison import compare_studies
from mmseg_autodeeplab.search.config_text import read_config_file
from mmseg_autodeeplab.visualization import render
from mmseg_autodeeplab.visualization.studies import (
    draw_rewards,
    studies_table,
)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'work_dirs',
        nargs='+',
        help='of searches, the one to compare with last',
    )
    parser.add_argument(
        '--last',
        type=int,
        default=20,
        metavar='N',
        help='compare the last N trials, and draw means of N',
    )
    parser.add_argument(
        '--out',
        default='studies',
        metavar='STEM',
        help='of STEM.json, STEM.md and STEM.svg, which are replaced',
    )
    return parser.parse_args()


def finished(work_dir: str) -> np.ndarray:
    """Indices and last values of the finished trials, (n, 2), in order."""
    results = [r for r in read_results(work_dir) if r.failure is None]
    values = {
        r.index: r.rewards[-1] if r.value is None and r.rewards else r.value
        for r in results
    }
    rows = sorted((i, v) for i, v in values.items() if v is not None)
    if left_out := len(values) - len(rows):
        print(
            f'Left out of {work_dir}: {left_out} trials that were stopped '
            'early by a version that did not write at which value.'
        )
    if len(rows) < 2:
        raise UserError(
            f'{work_dir} has {len(rows)} trials with a reward, but a '
            'comparison needs two or more: give the work directory of a '
            'search by tools/search.py that has them'
        )
    return np.array(rows)


@cli.user_errors()
def main():
    args = parse_args()
    if args.last < 1:
        raise UserError(f'--last is {args.last}, but must be 1 or more')
    names = [osp.basename(osp.normpath(d)) for d in args.work_dirs]
    if len({*names}) < len(names):
        raise UserError(
            f'the work directories are {", ".join(args.work_dirs)}, but their '
            'last parts name the studies: give folders with other names'
        )
    studies = dict(zip(names, map(finished, args.work_dirs)))
    search = read_config_file(osp.join(args.work_dirs[-1], CONFIG_FILE))
    reward = search.search.get('reward', 'mIoU')
    reward = reward if isinstance(reward, str) else ', '.join(reward)
    # With equal trials.
    count = min(map(len, studies.values()))
    studies = {name: points[:count] for name, points in studies.items()}
    found = compare_studies(studies, args.last)
    text = studies_table(found, args.last)
    for kind, content in dict(
        json=to_json(found, indent=1) + '\n',
        md=text,
        svg=render(draw_rewards(studies, reward, args.last), 'svg'),
    ).items():
        write_atomically(f'{args.out}.{kind}', content)
    print(f'{text}\nWritten: {args.out}.json, .md and .svg')


if __name__ == '__main__':
    main()
