"""Stop searches at random moments, resume them, compare bit by bit.

For one and two processes, and one and two workers for the data of each, the
small search of search_demo.py, smaller still, runs undisturbed. Then it is
stopped again and again: by kill -9 of all its processes, by SIGINT, by
SIGTERM. What `tools/train.py --resume` ends with must be what the undisturbed
run ended with: alphas and betas, weights, running statistics, optimizers,
schedules, the position in the data, the best metric, architecture.json.
"""

import argparse
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from mmseg_autodeeplab.files import to_json

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs' / 'autodeeplab' / 'search_demo.py'
MAX_ITERS, INTERVAL = 24, 4
OPTIONS = dict(
    {
        'custom_hooks.0.begin': 6,
        'custom_hooks.0.interval': 8,
        'train_cfg.max_iters': MAX_ITERS,
        # Now at a checkpoint, now between two.
        'train_cfg.val_interval': 6,
        'default_hooks.checkpoint.interval': INTERVAL,
        'default_hooks.checkpoint.save_best': 'mIoU',
        'default_hooks.logger.interval': INTERVAL,
        'model.backbone.num_layers': 3,
        'model.backbone.num_blocks': 1,
        'model.decode_head.in_channels': '[4,8,16,32]',
        'model.decode_head.dropout_ratio': 0.1,
        'model.data_preprocessor.size': '(64,64)',
        'train_dataloader.batch_size': 2,
        'train_dataloader.dataset.num_images': 32,
        'train_dataloader.dataset.pipeline.2.crop_size': '(64,64)',
        'val_dataloader.dataset.num_images': 4,
    }
)
STOPS = ('SIGKILL', 'SIGINT', 'SIGTERM')
# What else is in a checkpoint tells of times and paths.
COMPARED = (
    'state_dict',
    'ema_state_dict',
    'optimizer',
    'param_schedulers',
    'arch_search',
)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--stops', type=int, default=20, help='how many runs are stopped'
    )
    parser.add_argument(
        '--processes', type=int, nargs='+', default=[1, 2], help='of a run'
    )
    parser.add_argument(
        '--workers', type=int, nargs='+', default=[1, 2], help='of a loader'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the moments of the stops'
    )
    parser.add_argument(
        '--work-dir', help='folder of all runs; by default one that is removed'
    )
    parser.add_argument(
        '--resume-with',
        default=sys.executable,
        metavar='PYTHON',
        help='interpreter of another environment, to go on there',
    )
    parser.add_argument('--json', help='file for the results')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the search',
    )
    return parser.parse_args()


def command(work_dir, processes, workers, cfg_options, resume, python):
    """The command of a run."""
    if processes == 1:
        start = [python, ROOT / 'tools' / 'train.py', CONFIG]
    else:
        start = ['bash', ROOT / 'tools' / 'dist_train.sh', CONFIG, processes]
    options = dict(
        OPTIONS,
        **{
            f'{part}_dataloader.{key}': value
            for part in ('train', 'val')
            for key, value in {
                'num_workers': workers,
                'persistent_workers': workers > 0,
                'dataset.data_root': work_dir.parent / 'shapes',
            }.items()
        },
    )
    return [
        *map(str, start),
        *('--resume' for _ in range(resume)),
        *('--work-dir', str(work_dir), '--cfg-options'),
        *(f'{key}={value}' for key, value in options.items()),
        *cfg_options,
    ]


def start(*args, resume=False, python=sys.executable):
    """Start a run; its output goes into a file in its folder."""
    work_dir = args[0]
    work_dir.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(('', 0))
        port = free.getsockname()[1]
    with open(work_dir / 'output.txt', 'a') as output:
        return subprocess.Popen(
            command(*args, resume, python),
            env=dict(
                os.environ,
                PYTHONPATH=str(ROOT),
                OMP_NUM_THREADS='1',
                PATH=f'{Path(python).parent}:{os.environ["PATH"]}',
                PORT=str(port),
            ),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def complete(*args, **kwargs):
    """Run to the end.

    Returns:
        str: What is wrong with it, or ''.
    """
    status = start(*args, **kwargs).wait()
    return f'exit status {status}' if status else ''


def descendants(pid):
    """A process and all below it, also those in sessions of their own."""
    yield pid
    for children in Path(f'/proc/{pid}/task').glob('*/children'):
        for child in children.read_text().split():
            yield from descendants(int(child))


def stop(process, name):
    """Stop a run by a signal, and wait for all of its processes.

    SIGKILL goes to each of them, the others, as Ctrl-C does, to the group of
    the command; torchrun hands them on.
    """
    pids = list(descendants(process.pid))
    if name == 'SIGKILL':
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # Ended meanwhile.
                pass
    else:
        os.killpg(process.pid, getattr(signal, name))
    process.wait()
    while any(map(is_running, pids)):
        time.sleep(0.05)


def is_running(pid):
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(')')[2].split()[0] != 'Z'


def stop_after(process, checkpoint, seconds, name):
    """Stop a run that long after a checkpoint is begun."""
    while checkpoint and not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)
    if process.poll() is None:
        stop(process, name)


def final_state(work_dir, checkpoint=f'iter_{MAX_ITERS}.pth'):
    """What two runs have in common if they are the same to the last bit."""
    checkpoint = torch.load(work_dir / checkpoint, weights_only=False)
    architecture = json.loads((work_dir / 'architecture.json').read_text())
    del architecture['provenance']['date']
    info = checkpoint['message_hub']['runtime_info']
    return dict(
        {key: checkpoint.get(key) for key in COMPARED},
        place=info.get('seeded_loop'),
        best_score=info.get('best_score'),
        best_file=sorted(path.name for path in work_dir.glob('best_*')),
        architecture=architecture,
    )


def differences(a, b, name=''):
    """Yield the names of what is not the same, bit by bit."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from differences(a[key], b[key], f'{name}.{key}'.strip('.'))
    elif (
        isinstance(a, (list, tuple))
        and isinstance(b, (list, tuple))
        and len(a) == len(b)
    ):
        for i, pair in enumerate(zip(a, b)):
            yield from differences(*pair, f'{name}.{i}')
    elif isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        # By value, NaN and the sign of zero would be missed.
        if a.dtype != b.dtype or a.numpy().tobytes() != b.numpy().tobytes():
            yield name
    elif type(a) is not type(b) or a != b:
        yield name


def check(work_dir, args, rng):
    """Run everything; yield a row of the table for every stop."""
    settings = list(itertools.product(args.processes, args.workers))
    expected, pace = {}, {}
    for setting in settings[: args.stops]:
        folder = work_dir / '{}x{}'.format(*setting)
        failed = complete(folder, *setting, args.cfg_options)
        if failed:
            raise SystemExit(f'Error: {failed}, see {folder}/output.txt')
        expected[setting] = final_state(folder)
        last, before = (
            (folder / f'iter_{i}.pth').stat().st_mtime
            for i in (MAX_ITERS, MAX_ITERS - INTERVAL)
        )
        pace[setting] = last - before

    for number in range(args.stops):
        setting = settings[number % len(settings)]
        name = STOPS[number // len(settings) % len(STOPS)]
        folder = work_dir / f'stop_{number}'
        process = start(folder, *setting, args.cfg_options)
        after = rng.randrange(0, MAX_ITERS, INTERVAL)
        seconds = rng.uniform(0, pace[setting])
        checkpoint = folder / f'iter_{after}.pth' if after else None
        stop_after(process, checkpoint, seconds, name)
        found = sorted(
            (path.name for path in folder.glob('iter_*.pth')),
            key=lambda file: int(file[5:-4]),
        )
        begun = time.time()
        there = dict(resume=True, python=args.resume_with)
        failed = complete(folder, *setting, args.cfg_options, **there)
        if failed:
            wrong = [f'{failed}, see {folder}/output.txt']
        else:
            wrong = list(differences(expected[setting], final_state(folder)))
        yield dict(
            processes=setting[0],
            workers=setting[1],
            signal=name,
            last_checkpoint=found[-1] if found else None,
            status=process.returncode,
            resumed_seconds=round(time.time() - begun, 1),
            differences=wrong,
        )


def main():
    args = parse_args()
    # In the background of a script it is ignored, and so it would be below.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        work_dir = Path(args.work_dir or temporary).resolve()
        line = '{:>9} {:>7} {:>8} {:>12} {:>6} {:>9}  {}'
        print(
            line.format(
                'processes',
                'workers',
                'signal',
                'stopped at',
                'status',
                'resumed',
                'differences',
            )
        )
        for row in check(work_dir, args, random.Random(args.seed)):
            rows.append(row)
            wrong = row['differences']
            print(
                line.format(
                    row['processes'],
                    row['workers'],
                    row['signal'],
                    row['last_checkpoint'] or 'the start',
                    row['status'],
                    f'{row["resumed_seconds"]} s',
                    ' '.join(wrong[:3]) + ' ...' * (len(wrong) > 3) or 'none',
                )
            )
    if args.json:
        Path(args.json).write_text(to_json(rows, indent=2))
    failed = sum(bool(row['differences']) for row in rows)
    if failed:
        raise SystemExit(f'Error: {failed} of {len(rows)} runs differ')
    stopped = sum(row['status'] != 0 for row in rows)
    print(f'{stopped} runs stopped before the end, no difference')


if __name__ == '__main__':
    main()
