"""A work directory is that of one run."""

import errno
import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from tiny_config import write_config

from mmseg_autodeeplab.cli import open_work_dir
from mmseg_autodeeplab.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
RUN = [
    'iter_4.pth',
    'iter_8.pth',
    'iter_8-0123abcd.pth',
    'epoch_2.pth',
    'best_mIoU_iter_6.pth',
    'last_checkpoint',
    'arch_history.jsonl',
    'architecture.json',
    'architecture_20250101_120000.json',
    'search_report.html',
    '20260101_120000/vis_data/config.py',
]
TORN = ['iter_12.pth.0123abcd.tmp', 'architecture.json.0123abcd.tmp']
USERS = [
    'notes.txt',
    'iter_8.pth.txt',
    'iter_x.pth',
    'my_iter_8.pth',
    'architecture.json.bak',
    'mine.tmp',
    'decoded/architecture.json',
    'earlier_20250101_120000/iter_4.pth',
    '2026/iter_4.pth',
    'other.py',
]


def names(folder):
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob('*')
        if path.is_file() and path.name != '.lock'
    )


@pytest.fixture
def used(tmp_path):
    """A work directory with all that an earlier run, and a user, left."""
    folder = tmp_path / 'work'
    for name in [*RUN, *TORN, *USERS, 'config.py']:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return folder


def config(folder, tmp_path, hook=None, **kwargs):
    hooks = dict(checkpoint=dict(hook or {}, by_epoch=False))
    return Config(
        dict(
            work_dir=str(folder),
            launcher='none',
            default_hooks=hooks,
            **kwargs,
        ),
        cfg_text='It is not read.',
        filename=str(tmp_path / 'config.py'),
    )


def aside_of(folder):
    """The folder, which is not one that was there before."""
    (found,) = set(folder.glob('earlier_*')) - {
        folder / 'earlier_20250101_120000'
    }
    return found


def test_a_new_run_sets_all_of_an_earlier_one_aside(tmp_path, used):
    (notice,) = open_work_dir(config(used, tmp_path), resume=False)
    aside = aside_of(used)
    assert notice == f'What an earlier run left in {used} is now in {aside}.'
    assert names(aside) == sorted([*RUN, 'config.py'])
    assert (aside / 'iter_8.pth').read_text() == 'iter_8.pth'
    moved = f'{aside.name}/'
    assert [n for n in names(used) if not n.startswith(moved)] == sorted(USERS)


def test_nothing_is_said_of_nothing(tmp_path):
    folder = tmp_path / 'new' / 'work'
    assert open_work_dir(config(folder, tmp_path), resume=False) == []
    (folder / 'notes.txt').touch()
    assert open_work_dir(config(folder, tmp_path), resume=False) == []
    assert names(folder) == ['notes.txt']


def test_what_was_set_aside_is_never_overwritten(tmp_path):
    for i in range(3):
        (tmp_path / 'iter_4.pth').write_text(str(i))
        open_work_dir(config(tmp_path, tmp_path), resume=False)
    found = sorted(tmp_path.glob('earlier_*/iter_4.pth'))
    assert [file.read_text() for file in found] == ['0', '1', '2']


def test_a_config_that_lies_in_the_work_dir_stays(tmp_path, used):
    open_work_dir(config(used, used), resume=False)
    assert (used / 'config.py').read_text() == 'config.py'


def test_whatever_is_called_so_is_moved(tmp_path):
    """A new run could not write there, or would wait for a reader."""
    (tmp_path / 'iter_4.pth').mkdir()
    os.mkfifo(tmp_path / 'iter_8.pth')
    (tmp_path / 'architecture.json').symlink_to('nowhere')
    open_work_dir(config(tmp_path, tmp_path), resume=False)
    assert sorted(p.name for p in aside_of(tmp_path).iterdir()) == [
        'architecture.json',
        'iter_4.pth',
        'iter_8.pth',
    ]


def save(file, iteration, **kwargs):
    content = dict(
        meta=dict(iter=iteration, epoch=0),
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
        state_dict={},
        optimizer={},
    )
    torch.save(content | kwargs, file)


def test_a_resumed_run_sets_aside_what_lies_beyond(tmp_path, used):
    """Damaged, or of a branch that is given up."""
    save(used / 'iter_4.pth', 4)
    left_out, resuming, notice = open_work_dir(
        config(used, tmp_path), resume=True
    )
    assert 'iter_8.pth cannot be read' in left_out
    assert resuming == f'Resuming from {used}/iter_4.pth.'
    assert notice == (
        f'Checkpoints beyond the one that is resumed are now in '
        f'{aside_of(used)}.'
    )
    assert names(aside_of(used)) == [
        'best_mIoU_iter_6.pth',
        'iter_8-0123abcd.pth',
        'iter_8.pth',
    ]
    # And nothing but what was torn is gone.
    assert not set(TORN) & set(names(used))
    assert set(USERS) | {'iter_4.pth', 'arch_history.jsonl'} < {*names(used)}


@pytest.mark.parametrize('name', ['iter_4.pth', 'kept.pth'])
def test_so_does_one_that_is_resumed_from_a_file(tmp_path, used, name):
    save(used / name, 4)
    file = f'{used}/{name}'
    cfg = config(used, tmp_path, resume=True, load_from=file)
    open_work_dir(cfg, resume=False)
    assert (cfg.resume, cfg.load_from) == (True, file)
    assert 'iter_8.pth' in names(aside_of(used))
    assert 'iter_4.pth' in names(used)


def test_resumed_from_elsewhere_all_is_set_aside(tmp_path, used):
    save(tmp_path / 'iter_4.pth', 4)
    file = str(tmp_path / 'iter_4.pth')
    cfg = config(used, tmp_path, resume=True, load_from=file)
    open_work_dir(cfg, resume=False)
    assert names(aside_of(used)) == sorted([*RUN, 'config.py'])


def test_what_was_to_be_removed_at_the_kill_is(tmp_path):
    for iteration in (2, 4, 6):
        save(tmp_path / f'iter_{iteration}.pth', iteration)
    save(tmp_path / 'iter_8.pth', 8, replaces=['iter_4.pth', '../x.py'])
    (tmp_path.parent / 'x.py').touch()
    open_work_dir(config(tmp_path, tmp_path), resume=True)
    assert names(tmp_path) == ['iter_2.pth', 'iter_6.pth', 'iter_8.pth']
    assert (tmp_path.parent / 'x.py').exists()


def test_the_folder_of_checkpoints_is_one_of_the_run(tmp_path, used):
    out = tmp_path / 'out' / 'work'
    out.mkdir(parents=True)
    cfg = config(used, tmp_path, hook=dict(out_dir=str(tmp_path / 'out')))
    (out / 'iter_4.pth').touch()
    assert len(open_work_dir(cfg, resume=False)) == 2
    assert names(aside_of(out)) == ['iter_4.pth']
    # Logs lie here, checkpoints there.
    save(out / 'iter_4.pth', 4)
    (used / 'last_checkpoint').touch()
    assert len(open_work_dir(cfg, resume=True)) == 1
    assert (used / 'last_checkpoint').exists()


@pytest.mark.parametrize(
    'key,name',
    [
        ('load_from', 'iter_8.pth'),
        ('model.backbone.arch', 'architecture.json'),
        ('some.0.list', '20260101_120000/vis_data/config.py'),
    ],
)
def test_what_the_run_reads_is_not_moved_away(tmp_path, used, key, name):
    cfg = config(used, tmp_path, some=[dict()])
    cfg.merge_from_dict({key: f'{used}/{name}'})
    before = names(used)
    with pytest.raises(UserError, match='is of an earlier run in .* give ano'):
        open_work_dir(cfg, resume=False)
    assert names(used) == sorted({*before} - {*TORN})


@pytest.mark.parametrize(
    'launcher,variable',
    [
        ('pytorch', 'RANK'),
        ('slurm', 'SLURM_PROCID'),
        ('mpi', 'OMPI_COMM_WORLD_RANK'),
    ],
)
def test_the_first_process_alone(
    tmp_path, monkeypatch, used, launcher, variable
):
    cfg = config(used, tmp_path)
    cfg.launcher = launcher
    before = names(used)
    monkeypatch.setenv(variable, '1')
    assert open_work_dir(cfg, resume=False) == []
    assert names(used) == before
    monkeypatch.setenv(variable, '0')
    assert len(open_work_dir(cfg, resume=False)) == 1


def test_no_locks_no_refusal(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, 'lockf', fail)
    with pytest.warns(UserWarning, match='cannot be locked .No locks avail'):
        assert open_work_dir(config(tmp_path, tmp_path), resume=False) == []


TRAINING = """
import multiprocessing, sys, time
from mmengine.config import Config
from torch.utils.data import DataLoader
from mmseg_autodeeplab.cli import open_work_dir

cfg = Config(dict(work_dir=sys.argv[1], launcher='none'))
open_work_dir(cfg, resume=False)
batches = iter(DataLoader(range(9), num_workers=2))
print(*(p.pid for p in multiprocessing.active_children()), flush=True)
time.sleep(600)
"""


@pytest.mark.run
@pytest.mark.skipif(sys.platform != 'linux', reason='/proc')
def test_one_training_at_a_time(tmp_path):
    """The lock goes with the run, even while its workers are still there."""
    first = subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', TRAINING, tmp_path],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        workers = first.stdout.readline().split()
        assert len(workers) == 2
        with pytest.raises(UserError) as error:
            open_work_dir(config(tmp_path, tmp_path), resume=True)
    finally:
        first.kill()
        first.wait()
    open_work_dir(config(tmp_path, tmp_path), resume=True)
    assert all(Path(f'/proc/{worker}').exists() for worker in workers)
    assert re.fullmatch(
        rf'another training \(process {first.pid} on .+\) is running in '
        f'{tmp_path}: wait for its end, or give another --work-dir; remove '
        f'{tmp_path}/.lock only if that machine is gone',
        str(error.value),
    )


class Killed(Exception):
    pass


@pytest.mark.run
def test_what_is_resumed_is_never_an_earlier_run(
    tmp_path, monkeypatch, run_tool
):
    """A run starts in a used directory, and dies before its checkpoint."""
    tiny, work = write_config(tmp_path), tmp_path / 'work'
    run_tool('train', tiny, '--work-dir', work)
    earlier = (work / 'iter_2.pth').read_bytes()

    def die(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointHook, 'after_train_iter', die)
        with pytest.raises(Killed):
            run_tool('train', tiny, '--work-dir', work)
    assert (aside_of(work) / 'iter_2.pth').read_bytes() == earlier
    options = ['--cfg-options', 'optim_wrapper.optimizer.lr=0.5']
    run_tool('train', tiny, '--work-dir', work, '--resume', *options)
    found = torch.load(work / 'iter_2.pth', weights_only=False)
    # Resumed, it would be that of the checkpoint.
    assert found['optimizer']['param_groups'][0]['lr'] == 0.5
    assert len(list(work.glob('earlier_*/tiny.py'))) == 2
