"""Kill workers of a black-box search at random, and look at what comes out.

One worker finishes a study undisturbed. Then as many workers as --workers
says share another one, and one after the other is killed by kill -9 and
started again; a late one joins. Every trial must be finished exactly once,
with the architecture and, bit for bit, the reward of the undisturbed study.
"""

import argparse
import functools
import getpass
import importlib.util
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Debian has a folder per version.
POSTGRESQL = sorted(Path('/usr/lib/postgresql').glob('*/bin'))
# A dense prediction cell on a network of a few channels.
CONFIG = """
default_scope = 'mmseg'
custom_imports = dict(
    imports=['mmseg_autodeeplab'], allow_failed_imports=False)
randomness = dict(seed=0)
search = dict(
    space=dict(type='DPCSpace', num_branches=2), trials=TRIALS,
    reward=['aAcc', 'mIoU'],
    heartbeat=(5, 60), stages=[dict(), dict(top=1.0, train_cfg=dict(
        max_iters=32))])
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3,
        size=(64, 64)),
    backbone=dict(
        type='ResNet', depth=18, stem_channels=16, base_channels=16,
        num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,),
        norm_cfg=dict(type='BN', momentum=0.9)),
    decode_head=dict(
        type='DPCHead', arch='dpc', in_channels=16, channels=16, num_classes=6,
        norm_cfg=dict(type='BN', momentum=0.9)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')]
dataset = dict(
    type='ShapesDataset', data_root='DATA', num_images=8, size=(64, 64),
    pipeline=pipeline)
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset,
    sampler=dict(type='InfiniteSampler'))
val_dataloader = dict(
    batch_size=1, num_workers=0, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='IoUMetric')
val_cfg = dict(type='ValLoop')
train_cfg = dict(
    type='SeededIterBasedTrainLoop', max_iters=24, val_interval=8)
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.02))
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4))
log_processor = dict(by_epoch=False)
"""


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--storage', choices=['sqlite', 'postgresql'], default='sqlite'
    )
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--trials', type=int, default=12)
    parser.add_argument(
        '--proxy',
        choices=['stand-in', 'train'],
        default='stand-in',
        help='what a trial runs: a process that computes a number and goes on '
        'from its checkpoint, or tools/train.py with a tiny network',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of the moments of the kills'
    )
    parser.add_argument(
        '--work-dir', help='folder of all; by default one that is removed'
    )
    return parser.parse_args()


def write_config(folder, trials):
    """Write the config of a small search."""
    config = folder / 'search.py'
    text = CONFIG.replace('TRIALS', str(trials))
    config.write_text(text.replace('DATA', str(folder / 'shapes')))
    return config


def be_training(config, _, folder, resume):
    """Compute a number that depends on the architecture, step by step."""
    folder = Path(folder)
    checkpoint, log = folder / 'checkpoint.json', folder / 'run' / 'vis_data'
    text = (folder.parent / 'architecture.json').read_text()
    rng = random.Random(text.partition('provenance')[0] + folder.name)
    step, value = 0, rng.random()
    if checkpoint.exists():
        step, value = json.loads(checkpoint.read_text())
    log.mkdir(parents=True, exist_ok=True)
    while step < 6:
        time.sleep(rng.random() / 5)
        step, value = step + 1, 3.9 * value * (1 - value)
        if step % 2 == 0:
            aside = checkpoint.with_suffix('.tmp')
            aside.write_text(json.dumps([step, value]))
            aside.replace(checkpoint)
        with open(log / 'scalars.json', 'a') as file:
            line = dict(mIoU=100 * value, aAcc=50, step=step)
            file.write(json.dumps(line) + '\n')


def be_worker(config, work_dir, url):
    """Be tools/search.py with this script in place of tools/train.py."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    import mmseg_autodeeplab  # noqa: F401
    from mmseg_autodeeplab.search.blackbox import proxy, read_settings
    from mmseg_autodeeplab.search.blackbox.study import open_study
    from mmseg_autodeeplab.search.blackbox.worker import Worker

    init_default_scope('mmseg')
    cfg = Config.fromfile(config)
    settings = read_settings(cfg)
    opened = open_study('kills', cfg, settings, work_dir, url or None)
    command = [sys.executable, __file__, 'training']
    train = functools.partial(proxy.train, command=command)
    Worker(cfg, settings, *opened, work_dir, train).run()


class Postgresql:
    """A server in a folder, reached through a socket there."""

    def __init__(self, folder):
        self.folder, self.data = folder, folder / 'data'
        self.user = 'postgres' if os.getuid() == 0 else getpass.getuser()
        self.as_user = ['runuser', '-u', self.user, '--']
        self.as_user *= os.getuid() == 0  # initdb refuses root.

    def __enter__(self):
        self.folder.mkdir()
        if self.as_user:
            shutil.chown(self.folder, self.user)
            for parent in self.folder.parents:
                if parent.stat().st_mode & 1 == 0:
                    parent.chmod(parent.stat().st_mode | 1)
        # The databases of a check may be lost with the machine.
        options = f'-k {self.folder} -h "" -F'
        self._run('initdb', '-D', self.data, '-A', 'trust')
        log = ['-l', self.folder / 'log', '-o', options]
        self._run('pg_ctl', '-D', self.data, '-w', *log, 'start')
        # SQLAlchemy's default one depends on its version.
        drivers = filter(importlib.util.find_spec, ('psycopg2', 'psycopg'))
        kind = f'postgresql+{next(drivers, "psycopg")}'
        return f'{kind}://{self.user}@/postgres?host={self.folder}'

    def __exit__(self, *_):
        self._run('pg_ctl', '-D', self.data, '-m', 'immediate', 'stop')

    def _run(self, name, *args):
        subprocess.run(
            [*self.as_user, POSTGRESQL[-1] / name, *args],
            check=True,
            cwd='/',
            stdout=subprocess.DEVNULL,
        )


def start(proxy, config, work_dir, url):
    """Start a worker, which writes into a file."""
    work_dir.mkdir(exist_ok=True)
    if proxy == 'train':
        command = [ROOT / 'tools' / 'search.py', config]
        command += ['--work-dir', work_dir, *(['--storage', url] * bool(url))]
    else:
        command = [__file__, 'worker', config, work_dir, url]
    with open(work_dir / 'output.txt', 'a') as output:
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'),
            stdout=output,
            stderr=output,
        )


def finish(workers, work_dir):
    """Wait for workers, all of which are to end well."""
    if any([worker.wait() for worker in workers]):
        raise SystemExit(f'Error: a worker failed, see {work_dir}/output.txt')


def kill_some(workers, restart, rng, number, pace):
    """Kill one worker after the other, and start another in its place."""
    for count in range(number):
        time.sleep(rng.uniform(0, pace))
        place = rng.randrange(len(workers))
        if workers[place].poll() is not None:
            return count
        workers[place].send_signal(signal.SIGKILL)
        workers[place].wait()
        workers[place] = restart()
    return number


def found(work_dir, url):
    """Finished trials by index: the architecture, the bits of the rewards."""
    import optuna

    url = url or f'sqlite:///{work_dir}/study.db'
    (study,) = optuna.get_all_study_names(url)
    trials = [
        trial
        for trial in optuna.load_study(study_name=study, storage=url).trials
        if trial.state.is_finished() and trial.value is not None
    ]
    numbers = Counter(trial.user_attrs['index'] for trial in trials)
    for index, times in numbers.items():
        if times > 1:
            raise SystemExit(f'Error: trial {index} is finished {times} times')
    result = {}
    for trial in trials:
        architecture = json.loads(trial.user_attrs['architecture'])
        del architecture['provenance']
        rewards = [
            struct.pack('d', reward).hex()
            for reward in [*trial.user_attrs['rewards'], trial.value]
        ]
        result[trial.user_attrs['index']] = architecture, rewards
    return result


def check(args, folder, url):
    rng = random.Random(args.seed)
    config = write_config(folder, args.trials)
    calm, wild = folder / 'calm', folder / 'wild'
    begin = time.time()
    finish([start(args.proxy, config, calm, '')], calm)
    seconds = time.time() - begin
    print(f'undisturbed: {args.trials} trials in {seconds:.0f} s')
    restart = functools.partial(start, args.proxy, config, wild, url)
    workers = [restart() for _ in range(args.workers)]
    # Between the start of a worker and a trial.
    pace = max(seconds / args.trials, 8)
    kills = kill_some(workers, restart, rng, args.kills // 2, pace)
    workers.append(restart())  # A late one joins.
    kills += kill_some(workers, restart, rng, args.kills - kills, pace)
    finish(workers, wild)
    expected, others = found(calm, ''), found(wild, url)
    differ = [i for i in expected if expected[i] != others.get(i)]
    if differ or len(others) != args.trials:
        raise SystemExit(
            f'Error: trials {differ} differ, and {len(others)} are finished'
        )
    print(
        f'{args.storage}, {args.workers} workers, {kills} kills: '
        f'{len(others)} trials finished once each, all rewards equal'
    )


def main():
    if sys.argv[1:2] == ['training']:
        return be_training(*sys.argv[2:])
    if sys.argv[1:2] == ['worker']:
        return be_worker(*sys.argv[2:])
    args = parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.work_dir or temporary).resolve()
        folder.mkdir(exist_ok=True)
        if args.storage == 'sqlite':
            return check(args, folder, '')
        if not POSTGRESQL:
            print('Skipped: there is no /usr/lib/postgresql (apt install it)')
            return None
        with Postgresql(folder / 'server') as url:
            check(args, folder, url)


if __name__ == '__main__':
    main()
