"""Which checkpoint a resumed run starts from."""

import os

import pytest
import torch
from mmengine.config import Config

from mmseg_autodeeplab.cli.checkpoints import (
    latest_checkpoint,
    resume_latest,
)


@pytest.fixture
def write(tmp_path):
    """Write checkpoints, each a second after the one before."""

    def write(*names, seed=7):
        for name in names:
            file = tmp_path / name
            checkpoint = dict(meta=dict(seed=seed), state_dict={})
            torch.save(checkpoint, file)
            write.time += 1
            os.utime(file, (write.time, write.time))
        return str(file)

    write.time = 1e9
    return write


def cut(file):
    """As a kill leaves a file that is being written."""
    time = os.path.getmtime(file)
    with open(file, 'rb+') as f:
        f.truncate(os.path.getsize(file) // 2)
    os.utime(file, (time, time))


def test_the_newest_by_time(tmp_path, write):
    """iter_300 is of an earlier run, iter_20 before iter_100 by name."""
    write('iter_300.pth', 'epoch_1.pth', 'iter_20.pth')
    expected = write('iter_100.pth')
    write('best_mIoU_iter_120.pth', 'other.pth')
    assert latest_checkpoint(str(tmp_path)) == (expected, [])


def test_the_incomplete_are_left_out_and_named(tmp_path, write):
    expected = write('iter_10.pth')
    cut(write('iter_20.pth'))
    empty = write('iter_30.pth')
    open(empty, 'w').close()
    (tmp_path / 'last_checkpoint').write_text(empty)
    cfg = Config(dict(work_dir=str(tmp_path), randomness=dict(seed=0)))
    notices = resume_latest(cfg)
    assert (cfg.resume, cfg.load_from) == (True, expected)
    assert notices == [
        f'{tmp_path}/iter_30.pth is not complete and is left out.',
        f'{tmp_path}/iter_20.pth is not complete and is left out.',
        f'Resuming from {expected}.',
    ]


@pytest.mark.parametrize('folder', ['missing', '.'])
def test_none_to_be_found(tmp_path, folder):
    """Then what the config starts from stays."""
    cfg = Config(dict(work_dir=str(tmp_path / folder), load_from='coco.pth'))
    (notice,) = resume_latest(cfg)
    assert 'No checkpoint to resume from' in notice
    assert 'the run starts anew' in notice
    assert (cfg.resume, cfg.load_from) == (False, 'coco.pth')


def test_the_checkpoint_goes_before_that_of_the_config(tmp_path, write):
    file = write('iter_5.pth')
    cfg = Config(dict(work_dir=str(tmp_path), load_from='coco.pth'))
    resume_latest(cfg)
    assert (cfg.load_from, cfg.randomness.seed) == (file, 7)


@pytest.mark.parametrize('seed,expected', [(None, 7), (3, 3)])
def test_an_open_seed_is_that_of_the_checkpoint(
    tmp_path, write, seed, expected
):
    write('iter_5.pth')
    cfg = Config(dict(work_dir=str(tmp_path), randomness=dict(seed=seed)))
    resume_latest(cfg)
    assert cfg.randomness.seed == expected


def test_out_dir_of_the_hook(tmp_path, write):
    (tmp_path / 'out' / 'run').mkdir(parents=True)
    file = write('out/run/iter_5.pth')
    hook = dict(out_dir=str(tmp_path / 'out'))
    cfg = Config(
        dict(
            work_dir=str(tmp_path / 'work' / 'run'),
            default_hooks=dict(checkpoint=hook),
        )
    )
    resume_latest(cfg)
    assert cfg.load_from == file
