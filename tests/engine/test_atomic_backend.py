"""CheckpointHook on the backend whose files are complete or absent."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.fileio import get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModel
from mmengine.runner import Runner, checkpoint
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
BACKEND = dict(backend='atomic')


@pytest.fixture
def backend():
    return get_file_backend(backend_args=BACKEND)


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(2, 1)

    def forward(self, inputs, mode='tensor'):
        loss = self.line(inputs).square().mean()
        return dict(loss=loss) if mode == 'loss' else [loss]


class Rising(BaseMetric):
    """Better at every validation."""

    value = 0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        Rising.value += 1
        return dict(acc=Rising.value)


class Points(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return dict(inputs=torch.tensor([i, 1.0]))


def build(work_dir, max_iters=3, resume=False, **kwargs):
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=Points(),
        collate_fn=dict(type='default_collate'),
    )
    return Runner(
        model=Line(),
        work_dir=str(work_dir),
        experiment_name=f'{work_dir.name}_{max_iters}_{resume}',
        train_dataloader=dict(
            loader, sampler=dict(type='InfiniteSampler', shuffle=False)
        ),
        val_dataloader=dict(
            loader, sampler=dict(type='DefaultSampler', shuffle=False)
        ),
        train_cfg=dict(by_epoch=False, max_iters=max_iters, val_interval=1),
        val_cfg=dict(),
        val_evaluator=Evaluator(Rising()),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
        ),
        param_scheduler=None,
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook',
                by_epoch=False,
                interval=1,
                backend_args=BACKEND,
                **kwargs,
            )
        ),
        randomness=dict(seed=0),
        default_scope='mmengine',
        resume=resume,
    )


def checkpoints(folder):
    return sorted(path.name for path in folder.glob('*.pth*'))


@pytest.mark.run
def test_what_checkpoint_hook_does_with_it(tmp_path):
    """Removal, the best, publishing; then all of it again on resume."""
    options = dict(
        max_keep_ckpts=2, save_best='acc', published_keys=['state_dict']
    )
    build(tmp_path, **options).train()
    best, *kept = checkpoints(tmp_path)[1:4]
    assert best == 'best_acc_iter_3.pth'
    assert [kept[0], checkpoints(tmp_path)[4]] == ['iter_2.pth', 'iter_3.pth']
    # The two published ones.
    assert len(checkpoints(tmp_path)) == 5

    resumed = build(tmp_path, max_iters=5, resume=True, **options)
    resumed.train()
    names = [n for n in checkpoints(tmp_path) if '-' not in n]
    assert names == ['best_acc_iter_5.pth', 'iter_4.pth', 'iter_5.pth']

    (tmp_path / 'straight').mkdir()
    straight = build(tmp_path / 'straight', max_iters=5, **options)
    straight.train()
    assert torch.equal(straight.model.line.weight, resumed.model.line.weight)


@pytest.mark.run
@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_one_kept_checkpoint_stays_until_the_next_is_there(
    tmp_path, monkeypatch, step
):
    """And so does the best, whenever the writing ends."""
    written = []

    def fail(*args):
        written.append(args)
        if len(written) == 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args)

    original = getattr(os, step)
    monkeypatch.setattr(os, step, fail)
    options = dict(max_keep_ckpts=1, save_best='acc')
    # Three for each iteration: the last, the best, and the last once more,
    # which then knows the best.
    with pytest.raises(OSError, match='No space left .*iter_3.pth'):
        build(tmp_path, **options).train()
    assert checkpoints(tmp_path) == ['best_acc_iter_2.pth', 'iter_2.pth']

    monkeypatch.undo()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_2.pth'))
    build(tmp_path, resume=True, **options).train()
    assert checkpoints(tmp_path) == ['best_acc_iter_3.pth', 'iter_3.pth']


@pytest.mark.run
def test_checkpoint_hook_removes_before_it_saves(tmp_path, monkeypatch):
    """What the backend makes up for; fails where MMEngine does it itself."""
    events = []
    remove = type(get_file_backend(backend_args=BACKEND)).remove

    def removed(self, filepath):
        events.append(f'remove {os.path.basename(filepath)}')
        remove(self, filepath)

    monkeypatch.setattr(
        type(get_file_backend(backend_args=BACKEND)), 'remove', removed
    )
    monkeypatch.setattr(
        CheckpointHook,
        'before_save_checkpoint',
        lambda self, runner, checkpoint: events.append('save'),
    )
    build(tmp_path, max_iters=2, max_keep_ckpts=1).train()
    assert events == ['save', 'remove iter_1.pth', 'save']


def test_a_removed_file_that_is_written_again_stays(tmp_path, backend):
    file = str(tmp_path / 'best.pth')
    backend.put(b'old', file)
    backend.remove(file)
    assert backend.get(file) == b'old'
    backend.put(b'new', file)
    backend.put(b'other', str(tmp_path / 'other.pth'))
    assert backend.get(file) == b'new'


def test_what_lies_elsewhere_is_not_removed(tmp_path, backend):
    """The best checkpoint of the run that was resumed in another folder."""
    other = tmp_path / 'other' / 'best.pth'
    backend.put(b'old', other)
    backend.remove(other)
    backend.put(b'new', tmp_path / 'best.pth')
    assert other.read_bytes() == b'old'


def test_a_removed_file_may_be_gone_already(tmp_path, backend):
    file = tmp_path / 'a.pth'
    file.touch()
    backend.remove(file)
    file.unlink()
    backend.put(b'new', tmp_path / 'b.pth')
    assert (tmp_path / 'b.pth').read_bytes() == b'new'


KILLED = """
import io, os, shutil, signal, sys
import torch
import mmseg_autodeeplab
from mmengine.fileio import get_file_backend

folder = sys.argv[1]
backend = get_file_backend(backend_args=dict(backend='atomic'))

def checkpoint(n):
    with io.BytesIO() as f:
        torch.save(dict(n=n, weights=torch.full((1 << 10,), n)), f)
        return f.getvalue()

old, new = map(checkpoint, (0, 1))

def replace():
    # In the order of CheckpointHook.
    backend.remove(f'{folder}/iter_0.pth')
    backend.put(new, f'{folder}/iter_1.pth')

def kill_before_line(count):
    def trace(frame, event, arg):
        nonlocal count
        count -= event == 'line'
        if count < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)

replace()  # once: fewer lines from here on
seen = set()
line, status = 0, None
while status != 0:
    shutil.rmtree(folder)
    backend.put(old, f'{folder}/iter_0.pth')
    child = os.fork()
    if not child:
        kill_before_line(line)
        replace()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    saved = sorted(f for f in os.listdir(folder) if f.endswith('.pth'))
    seen.add(tuple(int(f[5:-4]) for f in saved))
    for f in saved:
        state = torch.load(f'{folder}/{f}')
        assert state['n'] == int(f[5:-4]) == state['weights'].unique()
    line += 1
# Before the new one was in place, with both, and without the old one.
assert seen == {(0,), (0, 1), (1,)}, seen
"""


@pytest.mark.run
def test_killed_at_any_line(tmp_path):
    """Every checkpoint in sight is whole, and one always is."""
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', KILLED, str(tmp_path)],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def test_what_was_killed_is_cleared_when_it_is_written_again(
    tmp_path, backend
):
    file = tmp_path / 'iter_[2].pth'
    for name in ('iter_[2].pth.abc.tmp', 'iter_2.pth.abc.tmp', 'mine.tmp'):
        (tmp_path / name).touch()
    checkpoint.save_checkpoint({}, str(file), backend_args=BACKEND)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'iter_2.pth.abc.tmp',
        'iter_[2].pth',
        'mine.tmp',
    ]
