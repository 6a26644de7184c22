"""The launching scripts, and what becomes of them without GPUs."""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.arch import Architecture
from mmseg_autodeeplab.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'configs' / 'autodeeplab' / 'search_demo.py'


# The second rank leaves while its thread still waits for the first one.
LEAVING = """
import atexit
import sys

import torch
from mmengine.config import Config
from torch import distributed, nn

from mmseg_autodeeplab import cli

cli.start_processes(Config(dict(launcher='pytorch', model={})))
store = distributed.FileStore(sys.argv[1], 2)
model = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
model(torch.ones(1, 2)).sum().backward()
model.itself = model
del model
if distributed.get_rank() == 0:
    store.wait(['leaving'])
    for _ in range(1000):
        torch.ones(3_000_000).sum()
    distributed.all_reduce(torch.ones(1))
else:
    distributed.all_reduce(torch.ones(1), async_op=True)
    atexit.register(store.set, 'leaving', '')
"""


def free_port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


def launch(tmp_path, script, *args):
    port = free_port()
    python = os.path.dirname(sys.executable)
    return subprocess.run(
        ['bash', str(ROOT / 'tools' / script), *map(str, args)],
        cwd=tmp_path,
        env=dict(
            os.environ,
            PATH=f'{python}:{os.environ["PATH"]}',
            PORT=str(port),
            CUDA_VISIBLE_DEVICES='',
            PYTHONWARNINGS='ignore',
        ),
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.run
def test_two_ranks_search_and_write_once(tmp_path):
    shapes = tmp_path / 'shapes'
    done = launch(
        tmp_path,
        'dist_train.sh',
        DEMO,
        2,
        '--work-dir',
        tmp_path / 'work',
        '--cfg-options',
        'model.backbone.num_layers=3',
        'model.backbone.num_blocks=1',
        'model.decode_head.in_channels=[4,8,16,32]',
        'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        f'train_dataloader.dataset.data_root={shapes}',
        'train_dataloader.dataset.num_images=8',
        'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False',
        f'val_dataloader.dataset.data_root={shapes}',
        'val_dataloader.dataset.num_images=3',
        'train_cfg.max_iters=4',
        'train_cfg.val_interval=4',
        'custom_hooks.0.begin=1',
        'default_hooks.checkpoint.interval=2',
        'default_hooks.logger.interval=1',
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # All that there is, in one copy.
    work = tmp_path / 'work'
    names = sorted(
        re.sub(r'\d{8}_\d{6}', 'TIME', str(file.relative_to(work)))
        for file in work.rglob('*')
        if file.is_file()
    )
    assert names == [
        '.lock',
        'TIME/TIME.log',
        'TIME/vis_data/TIME.json',
        'TIME/vis_data/config.py',
        'TIME/vis_data/scalars.json',
        *(
            f'TIME/vis_data/vis_image/search_{name}_4.png'
            for name in ('alphas', 'betas', 'cell', 'path')
        ),
        'arch_history.jsonl',
        'architecture.json',
        'iter_2.pth',
        'iter_4.pth',
        'last_checkpoint',
        'search_demo.py',
    ]
    (scalars,) = work.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    for name, count in dict(loss=4, changed_layers=1, mIoU=1).items():
        assert sum(name in line for line in lines) == count
    assert len(lines) == 6
    (log,) = work.glob('*/*.log')
    log = log.read_text()
    assert log.count('Saving checkpoint at 4 iterations') == 1
    assert 'Distributed launcher: pytorch' in log
    assert 'GPU number: 2' in log  # MMEngine's words.

    architecture = Architecture.load(work / 'architecture.json')
    assert architecture.provenance['iteration'] == 4


@pytest.mark.run
def test_a_rank_leaves_whatever_its_threads_hold(tmp_path):
    """Joined with the interpreter locked, a thread would wait for ever."""
    env = dict(
        os.environ,
        WORLD_SIZE='2',
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(free_port()),
        CUDA_VISIBLE_DEVICES='',
    )
    ranks = [
        subprocess.Popen(
            [sys.executable, '-c', LEAVING, str(tmp_path / 'store')],
            env=dict(env, RANK=rank, LOCAL_RANK=rank),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in '01'
    ]
    try:
        for rank in reversed(ranks):
            _, errors = rank.communicate(timeout=300)
            assert rank.returncode == 0, errors
    finally:
        for rank in ranks:
            rank.kill()


@pytest.mark.run
@pytest.mark.parametrize(
    'tool,args',
    [
        ('train', ['a config.py']),
        ('test', ['a config.py', 'iter 1.pth']),
    ],
)
def test_what_slurm_is_asked_for(tmp_path, tool, args):
    """By a stand-in that prints its arguments; none is split."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / f'slurm_{tool}.sh'), 'short', 'a job']
        + [*args, '--cfg-options', 'a="[1, 2]"'],
        env=dict(
            os.environ,
            PATH=f'{tmp_path}:{os.environ["PATH"]}',
            GPUS='16',
            GPUS_PER_NODE='8',
            SRUN_ARGS='--time=1 --mem=2G',
        ),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    asked = done.stdout.splitlines()
    for option in (
        '--partition=short',
        '--job-name=a job',
        '--gres=gpu:8',
        '--ntasks=16',
        '--ntasks-per-node=8',
        '--mem=2G',
    ):
        assert option in asked
    assert asked[asked.index('python') :] == [
        'python',
        '-u',
        str(ROOT / 'tools' / f'{tool}.py'),
        *args,
        '--launcher',
        'slurm',
        '--cfg-options',
        'a="[1, 2]"',
    ]


def test_one_process_and_gpus_are_left_to_mmengine(monkeypatch):
    cfg = Config(dict(launcher='none', model={}))
    cli.start_processes(cfg)
    monkeypatch.setattr(cli.configs, 'get_device', lambda: 'cuda')
    cfg.launcher = 'pytorch'
    cli.start_processes(cfg)
    assert 'model_wrapper_cfg' not in cfg


@pytest.mark.parametrize(
    'launcher,norm,sentence',
    [
        ('slurm', 'BN', '--launcher slurm needs GPUs'),
        ('mpi', 'BN', '--launcher mpi needs GPUs'),
        ('pytorch', 'SyncBN', 'set the type of each norm_cfg to BN'),
    ],
)
def test_what_needs_gpus(monkeypatch, launcher, norm, sentence):
    monkeypatch.setattr(cli.configs, 'get_device', lambda: 'cpu')
    model = dict(backbone=dict(norm_cfg=dict(type=norm)))
    with pytest.raises(UserError) as error:
        cli.start_processes(Config(dict(launcher=launcher, model=model)))
    assert sentence in str(error.value) and '\n' not in str(error.value)


def test_any_rank_may_write_the_first_prediction(tmp_path):
    """MMSegmentation makes the folder on rank 0, while others write."""
    spec = importlib.util.spec_from_file_location(
        'test_tool', ROOT / 'tools' / 'test.py'
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    cfg = Config(dict(test_evaluator=dict(type='IoUMetric')))
    folder = tmp_path / 'a' / 'b'
    tool.save_predictions(cfg, str(folder))
    assert folder.is_dir()
    assert cfg.test_evaluator.output_dir == str(folder)
