"""Disks that are full, folders that cannot be written to."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'configs' / 'autodeeplab' / 'search_demo.py'


@pytest.fixture
def search(tmp_path):
    """Arguments of a search that saves in each of its three iterations.

    A checkpoint has 1.5 MB.
    """
    options = dict(
        (f'{part}_dataloader.{key}', value)
        for part in ('train', 'val')
        for key, value in {
            'batch_size': 2,
            'num_workers': 0,
            'persistent_workers': False,
            'dataset.data_root': tmp_path / 'shapes',
            'dataset.num_images': 4,
            'dataset.size': '(64,64)',
        }.items()
    )
    options['val_dataloader.batch_size'] = 1
    options.update(
        {
            'model.backbone.num_layers': 3,
            'model.backbone.num_blocks': 1,
            'model.decode_head.in_channels': '(4,8,16,32)',
            'train_dataloader.dataset.pipeline.2.crop_size': '(48,48)',
            'model.data_preprocessor.size': '(48,48)',
            'train_cfg.max_iters': 3,
            'train_cfg.val_interval': 10,
            'custom_hooks.0.begin': 1,
            'default_hooks.checkpoint.interval': 1,
            'default_hooks.checkpoint.max_keep_ckpts': 1,
        }
    )
    return [
        DEMO,
        '--cfg-options',
        *(f'{key}={value}' for key, value in options.items()),
        '--work-dir',
    ]


@pytest.mark.parametrize('below', ['', 'work'])
def test_a_work_dir_that_cannot_be_made(tmp_path, failure, search, below):
    file = tmp_path / 'file'
    file.touch()
    folder = file / below
    message = failure('train', *search, folder)
    assert f'nothing can be written to the work dir {folder} (' in message
    assert 'or give another --work-dir' in message
    # Nothing was built before.
    assert sorted(os.listdir(tmp_path)) == ['file']


def test_a_work_dir_that_cannot_be_written_to(failure, search):
    """Root may write anywhere but where there is nowhere to write."""
    message = failure('train', *search, '/proc/self')
    assert 'nothing can be written to the work dir /proc/self (' in message


@pytest.fixture
def filled(monkeypatch):
    """Let the disk be full when a checkpoint of this name is written."""

    def fill(name):
        fsync = os.fsync

        def full(handle):
            if f'/{name}.' in os.readlink(f'/proc/self/fd/{handle}'):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(handle)

        monkeypatch.setattr(os, 'fsync', full)

    return fill


@pytest.mark.run
@pytest.mark.skipif(sys.platform != 'linux', reason='names of open files')
def test_a_disk_that_gets_full(
    tmp_path, monkeypatch, failure, run_tool, search, filled
):
    work = tmp_path / 'work'
    filled('iter_2.pth')
    message = failure('train', *search, work)
    assert f"No space left on device: '{work}/iter_2.pth': free" in message
    assert 'with --resume' in message
    assert sorted(path.name for path in work.glob('iter_*')) == ['iter_1.pth']

    monkeypatch.undo()
    (work / 'last_checkpoint').write_text(str(work / 'iter_1.pth'))
    run_tool('train', *search, work, '--resume')
    assert sorted(path.name for path in work.glob('iter_*')) == ['iter_3.pth']


@pytest.mark.run
def test_a_file_that_may_not_become_so_large(tmp_path, failure, search):
    work = tmp_path / 'work'
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        message = failure('train', *search, work)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"File too large: '{work}/iter_1.pth': free some space" in message
    assert not list(work.glob('iter_*'))


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of so many kilobytes, where that is allowed."""
    folder = tmp_path / 'work'
    folder.mkdir()

    def mount(size):
        options = f'-osize={size}k'
        command = ['mount', '-t', 'tmpfs', options, 'tmpfs', folder]
        if subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
            pytest.skip('nothing may be mounted here')
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(['umount', '-l', folder], check=True)


@pytest.mark.run
def test_a_disk_without_room_for_two_checkpoints(failure, search, small_disk):
    work = small_disk(1000)
    assert 'left, but two checkpoints need 2.5 MB' in failure(
        'train', *search, work
    )
    assert not list(work.glob('iter_*'))


@pytest.mark.run
def test_a_small_disk(failure, search, small_disk):
    """Room for two, but not for three."""
    work = small_disk(3900)
    keep_all = 'default_hooks.checkpoint.max_keep_ckpts=-1'
    message = failure('train', *search[:-1], keep_all, '--work-dir', work)
    assert f"No space left on device: '{work}/iter_3.pth': free" in message
    names = sorted(path.name for path in work.glob('iter_*'))
    assert names == ['iter_1.pth', 'iter_2.pth']
    for name in names:
        torch.load(work / name, weights_only=False)
