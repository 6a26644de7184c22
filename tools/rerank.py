"""Train the best trials of a black-box search for longer, and rank them again.

Each is trained as retrain.py of tools/decode.py says, in a folder of its own;
what was done before is not done again.
"""

import argparse
import itertools
import os.path as osp
import shlex

from mmengine.registry import init_default_scope
from prettytable import PrettyTable

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.files import to_json, write_atomically
from mmseg_autodeeplab.search import retrain_config
from mmseg_autodeeplab.search.blackbox import (
    Reranked,
    proxy,
    rank_correlation,
    read_reranked,
    read_results,
    rerank_file,
)
from mmseg_autodeeplab.search.processes import side_by_side


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', help='work directory of tools/search.py')
    parser.add_argument(
        '--top', type=int, default=5, help='how many of the best trials'
    )
    parser.add_argument(
        '--trials',
        type=int,
        nargs='*',
        default=[],
        help='numbers of other trials, to see how right the proxy is',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='how many at the same time; several GPUs are dealt out to them',
    )
    parser.add_argument(
        '--config',
        help='config of the search, in place of the one in the work directory',
    )
    return parser.parse_args()


def choose(args):
    """The results to train, from the best."""
    for name, least in dict(top=0, jobs=1).items():
        if (value := getattr(args, name)) < least:
            raise UserError(
                f'--{name} is {value}, but must be {least} or more'
            )
    complete = [
        result
        for result in read_results(args.work_dir)
        if result.state == 'complete'
    ]
    known = {result.index for result in complete}
    if unknown := set(args.trials) - known:
        raise UserError(
            f'--trials has {min(unknown)}, but {args.work_dir} has no such '
            'finished trial: choose among its folders in trials/'
        )
    return [
        result
        for place, result in enumerate(complete)
        if place < args.top or result.index in args.trials
    ]


def train(result, search, names, work_dir):
    """Train a result, unless that was done; returns a sentence."""
    file = rerank_file(work_dir, result.index)
    if osp.exists(file):
        return f'Trial {result.index} was trained before.'
    cfg, _ = retrain_config(search, result.architecture)
    try:
        values = proxy.train(cfg, osp.dirname(file))
        value = proxy.reward(values, names)
    except proxy.TrialFailed as error:
        return f'Trial {result.index} failed: {error}'
    found = Reranked(result.index, result.rewards[-1], value)
    write_atomically(file, to_json(found._asdict(), indent=2) + '\n')
    return f'Trial {result.index}: {found.proxy:.5g}, then {found.value:.5g}'


@cli.user_errors()
def main():
    args = parse_args()
    init_default_scope('mmseg')
    _, search = cli.read_study(args.work_dir, args.config)
    names = search.search.get('reward', 'mIoU')
    names = [names] if isinstance(names, str) else names
    chosen = choose(args)
    with side_by_side(args.jobs) as pool:
        given = map(itertools.repeat, (search, names, args.work_dir))
        for sentence in pool.map(train, chosen, *given):
            print(sentence, flush=True)
    heads = ['rank', 'trial', 'rank by proxy', 'proxy', 'trained for longer']
    table = PrettyTable(heads)
    reranked = read_reranked(args.work_dir)
    by_proxy = sorted(reranked, key=lambda r: -r.proxy)
    for place, one in enumerate(reranked, 1):
        old = by_proxy.index(one) + 1
        values = f'{one.proxy:.5g}', f'{one.value:.5g}'
        table.add_row([place, one.trial, old, *values])
    print(table)
    if len(reranked) > 2:
        pairs = zip(*((one.proxy, one.value) for one in reranked))
        rho = rank_correlation(*pairs)
        print(
            f"Spearman's rho of both rankings, over {len(reranked)}: {rho:.2f}"
        )
    report = ['python', 'tools/analysis_tools/search_report.py', args.work_dir]
    print(f'All on one page: {shlex.join(report)}')


if __name__ == '__main__':
    main()
