"""Kill workers whose trials a controller proposes, and look at its weights.

Several workers share a study, and one after the other is killed by kill -9 and
started again. Then one worker that nobody disturbs is given the same trials in
the same order. What it draws for each, and all of its weights, must be those
of the killed ones, bit for bit.
"""

import argparse
import functools
import random
import tempfile
from pathlib import Path

import optuna
import torch
from search_kills import finish, kill_some, start, write_config

from mmseg_autodeeplab.arch import DPCSpace
from mmseg_autodeeplab.search.blackbox import ControllerSampler
from mmseg_autodeeplab.search.blackbox.trials import ended

# Some trials are refused, and some are stopped early.
SEARCH = """search = dict(
    sampler=dict(type='ControllerSampler'),
    pruner=dict(type='MovingAveragePruner', begin=30.0),
    limit=dict(parameters=LIMIT),
"""


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--workers', type=int, default=3)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--trials', type=int, default=80)
    parser.add_argument(
        '--pace', type=float, default=20, help='most seconds between kills'
    )
    parser.add_argument(
        '--limit', type=int, default=13200, help='of parameters'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of the moments of the kills'
    )
    parser.add_argument(
        '--work-dir', help='folder of all; by default one that is removed'
    )
    return parser.parse_args()


def same(one, other):
    """Whether two states have the same bits."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            same(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, torch.Tensor):
        return one.numpy().tobytes() == other.numpy().tobytes()
    return one == other


def undisturbed(trials, weights, folder):
    """Let one worker see the trials; returns its sampler and its files."""
    sampler, space, files = ControllerSampler(), DPCSpace(2), {}
    for count in range(len(trials) + 1):
        sampler.learn(space, 0, trials[:count], str(folder))
        files.update((f.name, f.read_bytes()) for f in folder.glob('*.pt'))
        for index, (drawn, _) in enumerate(trials):
            known = drawn.provenance
            if known['learnt'] != count:
                continue
            again = sampler.propose(space, 0, index, set(), [])
            keys = ('choices', 'log_prob')
            if any(again.provenance[key] != known[key] for key in keys):
                raise SystemExit(f'Error: trial {index} is drawn otherwise')
    for file in weights.glob('*.pt'):
        if file.read_bytes() != files[file.name]:
            raise SystemExit(f'Error: {file} has other weights')
    return sampler


def check(args, folder):
    rng = random.Random(args.seed)
    config = write_config(folder, args.trials)
    search = SEARCH.replace('LIMIT', str(args.limit))
    config.write_text(config.read_text().replace('search = dict(', search))
    work_dir = folder / 'wild'
    restart = functools.partial(start, 'stand-in', config, work_dir, '')
    workers = [restart() for _ in range(args.workers)]
    kills = kill_some(workers, restart, rng, args.kills, args.pace)
    finish(workers, work_dir)
    url = f'sqlite:///{work_dir}/study.db'
    stored = optuna.load_study(study_name='kills', storage=url).trials
    trials = ended(stored)
    weights = work_dir / 'controller'
    files = len(list(weights.glob('*.pt')))
    calm = undisturbed(trials, weights, folder / 'calm')
    # Whoever comes after the killed ones goes on from their files.
    after = ControllerSampler()
    after.learn(DPCSpace(2), 0, trials, str(weights))
    if not same(after.state_dict(), calm.state_dict()):
        raise SystemExit('Error: the controllers differ')
    behind = sum(
        index > drawn.provenance['learnt']
        for index, (drawn, _) in enumerate(trials)
    )
    states = [trial.state.name for trial in stored]
    print(
        f'{args.workers} workers, {kills} kills: {len(trials)} trials in '
        f'{len(stored)} attempts, {states.count("PRUNED")} stopped early, '
        f'{sum("failure" in t.user_attrs for t in stored)} refused; {behind} '
        f'were drawn while earlier ones ran; all draws, {files} files and the '
        'controller after the last trial equal, bit for bit'
    )


def main():
    args = parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.work_dir or temporary).resolve()
        folder.mkdir(exist_ok=True)
        check(args, folder)


if __name__ == '__main__':
    main()
