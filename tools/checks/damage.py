"""Damage the newest checkpoint of a run in many ways, and resume the run.

A small search saves iter_4.pth and iter_8.pth. Each of many copies has another
damage in iter_8.pth: a flipped bit, a cut, or an odd entry of the folder in
its place. What `tools/train.py --resume` goes on from must be, bit by bit,
what an intact checkpoint holds, or the tool refuses in one sentence. A few
copies are resumed to the end, which must be the end of the run itself.
"""

import argparse
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.errors import UserError

sys.path.append(str(Path(__file__).parent))  # As for a script, elsewhere too.
from resume import COMPARED, OPTIONS, differences  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs' / 'autodeeplab' / 'search_demo.py'
MAX_ITERS = 8


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--bits', type=int, default=60, help='flipped bits')
    parser.add_argument('--cuts', type=int, default=20, help='truncations')
    parser.add_argument(
        '--runs', type=int, default=4, help='how many are resumed to the end'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the damages')
    return parser.parse_args()


def flip(rng):
    def damage(file):
        content = bytearray(file.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)

    return damage


def cut(rng):
    def damage(file):
        os.truncate(file, rng.randrange(file.stat().st_size))

    return damage


def instead(make):
    def damage(file):
        file.unlink()
        make(file)

    return damage


def serve(file):
    # The name of a socket may not be long.
    with (
        socket.socket(socket.AF_UNIX) as server,
        tempfile.TemporaryDirectory(dir='/tmp') as short,
    ):
        server.bind(f'{short}/socket')
        os.rename(f'{short}/socket', file)


def foreign_zip(file):
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('a.txt', 'b')


def without(key):
    def damage(file):
        content = torch.load(file, weights_only=False)
        del content[key]
        torch.save(content, file)

    return damage


ODD = {
    'a folder': instead(Path.mkdir),
    'a fifo': instead(os.mkfifo),
    'a socket': instead(serve),
    'a dangling link': instead(lambda file: file.symlink_to('nowhere')),
    'a loop of links': instead(lambda file: file.symlink_to(file)),
    'an empty file': instead(Path.touch),
    'a foreign zip': foreign_zip,
    'a list of torch': lambda file: torch.save([1], file),
    'one without meta': without('meta'),
    'one without optimizer': without('optimizer'),
}


def train(work_dir, *options):
    """Run the tool to its end, in a process of its own."""
    settings = dict(
        OPTIONS,
        **{
            'train_cfg.max_iters': MAX_ITERS,
            'train_cfg.val_interval': MAX_ITERS,
            'custom_hooks.0.begin': 1,
        },
        **{
            f'{part}_dataloader.dataset.data_root': work_dir.parent / 'shapes'
            for part in ('train', 'val')
        },
    )
    return subprocess.run(
        [
            *(sys.executable, '-W', 'ignore', ROOT / 'tools' / 'train.py'),
            *(CONFIG, '--work-dir', work_dir, *options, '--cfg-options'),
            *(f'{key}={value}' for key, value in settings.items()),
        ],
        env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        timeout=300,
    )


def states(folder):
    """What the checkpoints of a folder hold, by their names."""
    return {
        f'iter_{i}.pth': load(folder / f'iter_{i}.pth')
        for i in (MAX_ITERS // 2, MAX_ITERS)
    }


def load(file):
    content = CheckpointLoader.load_checkpoint(str(file), logger='silent')
    return {key: content.get(key) for key in COMPARED}


def resume(folder, intact):
    """What a resumed run would go on from, and what is wrong with it."""
    cfg = Config.fromfile(CONFIG)
    cfg.update(work_dir=str(folder), launcher='none')
    try:
        cli.open_work_dir(cfg, resume=True)
        found = load(cfg.load_from)
    except UserError as error:
        return 'refused', '\n' in str(error)
    name = Path(cfg.load_from).name
    return name, list(differences(intact[name], found))


def main():
    args = parse_args()
    rng = random.Random(args.seed)
    damages = [('a flipped bit', flip(rng))] * args.bits
    damages += [('a cut', cut(rng))] * args.cuts
    damages += ODD.items()
    # Of each kind, the first ones.
    to_the_end = dict(damages[::-1])
    counts, wrong = Counter(), []
    with tempfile.TemporaryDirectory() as temporary:
        run, copy = Path(temporary, 'run'), Path(temporary, 'copy')
        done = train(run)
        if done.returncode:
            raise SystemExit(f'Error: {done.stderr}')
        intact = states(run)
        for kind, damage in damages:
            shutil.copytree(run, copy)
            damage(copy / f'iter_{MAX_ITERS}.pth')
            found, differs = resume(copy, intact)
            counts[kind, found] += 1
            wrong += [(kind, found, differs)] if differs else []
            shutil.rmtree(copy)
        for kind in [*to_the_end][::-1][: args.runs]:
            shutil.copytree(run, copy)
            to_the_end[kind](copy / f'iter_{MAX_ITERS}.pth')
            done = train(copy, '--resume')
            same = done.returncode == 0 and states(copy)
            same = same and not list(differences(intact, same))
            counts[f'{kind}, run to the end', 'same' if same else 'other'] += 1
            wrong += [] if same else [(kind, done.stderr[-500:])]
            shutil.rmtree(copy)
    for (kind, found), count in counts.items():
        print(f'{count:>4}  {kind:<40}  {found}')
    if wrong:
        raise SystemExit(f'Error: {len(wrong)} went wrong: {wrong}')
    print(f'{len(damages)} of {len(damages)} as they should be')


if __name__ == '__main__':
    main()
