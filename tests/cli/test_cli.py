import argparse
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, MODELS
from tiny_config import write_config
from torch import nn
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset

from mmseg_autodeeplab.cli import (
    add_arguments,
    enable_amp,
    read_config,
    start_processes,
    user_errors,
)
from mmseg_autodeeplab.errors import Unavailable, UserError

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


def run(tool, *args, cwd):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', TOOLS / f'{tool}.py', *args],
        cwd=cwd,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )


@pytest.mark.run
def test_train_resume_and_test(config, tmp_path):
    result = run('train', config, '--work-dir', 'work', cwd=tmp_path)
    assert result.returncode == 0, result.stderr

    result = run(
        'train',
        config,
        '--work-dir',
        'work',
        '--resume',
        '--cfg-options',
        'train_cfg.max_iters=3',
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert 'resumed' in result.stdout + result.stderr
    assert (
        'train_cfg.max_iters is 2 in the checkpoint and 3 in the config'
        in (result.stdout + result.stderr)
    )
    assert (tmp_path / 'work' / 'iter_3.pth').is_file()

    result = run(
        'test',
        config,
        'work/iter_3.pth',
        '--tta',
        '--out',
        'maps',
        '--show-dir',
        'painted',
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert 'mIoU' in result.stdout + result.stderr
    assert len(list((tmp_path / 'maps').iterdir())) == 2
    assert len(list((tmp_path / 'painted').rglob('*.png'))) == 2


@pytest.mark.run
def test_error_is_all_of_stderr_and_status_is_1(tmp_path):
    result = run('train', 'missing.py', cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ''
    assert result.stderr == 'Error: the config missing.py does not exist\n'


@pytest.mark.parametrize(
    'text, sentence',
    [
        ('model = dict(', 'SyntaxError'),
        ('model = undefined', "NameError: name 'undefined'"),
        ("_base_ = 'no_base.py'", 'no_base.py'),
        ("_base_ = 'mmseg::_base_/models/no_model.py'", 'no_model.py'),
    ],
)
def test_broken_config(failure, tmp_path, text, sentence):
    path = tmp_path / 'broken.py'
    path.write_text(text)
    error = failure('train', path)
    assert f'cannot read the config {path}: ' in error and sentence in error


def test_broken_override(failure, config):
    error = failure(
        'train',
        config,
        '--cfg-options',
        'train_pipeline.7.type=Resize',
    )
    assert 'cannot read the config' in error


@pytest.mark.parametrize(
    'text, value',
    [
        ('a b', 'a b'),
        ('"a  b"', 'a  b'),
        (' a b ', 'a b'),
        ('/my data (1)/camvid', '/my data (1)/camvid'),
        (r'C:\My Documents\data', r'C:\My Documents\data'),
        ('a=b c=d', 'a=b c=d'),
        ('it is [a b] c', 'it is [a b] c'),
        ('[a b, c d]', ['a b', 'c d']),
        ('a b , c', ['a b', 'c']),
        ('( a b, "c d" )', ('a b', 'c d')),
        ('[(a b, 1) , [2, c  d]]', [('a b', 1), [2, 'c  d']]),
        # As MMEngine has them.
        ('[(1, 2), (3, 4)]', [(1, 2), (3, 4)]),
        ('0.5, None, true', [0.5, None, True]),
        (' 3 ', 3),
        ('[]', []),
        ('', ''),
    ],
)
def test_spaces_in_an_option(text, value):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = ['--cfg-options', 'x=1', f'a.b={text}']
    args = parser.parse_args(['config.py', *options])
    assert args.cfg_options == {'x': 1, 'a.b': value}


def test_an_option_that_cannot_be_read(run_tool, config, capsys):
    for option in ('resume', 'model.x=[(1,2]'):
        with pytest.raises(SystemExit) as error:
            run_tool('train', config, '--cfg-options', option)
        assert error.value.code == 2
        assert f'{option} is not KEY=VALUE' in capsys.readouterr().err


@pytest.mark.parametrize(
    'options, sentence',
    [
        (
            ['dataset.data_root=nowhere'],
            'nowhere does not exist: check data_root and data_prefix of '
            'train_dataloader.dataset.dataset, or pass --cfg-options '
            'train_dataloader.dataset.dataset.data_root=FOLDER',
        ),
        (
            ['dataset.dataset.data_prefix.seg_map_path=no_labels'],
            'no_labels does not exist',
        ),
        (['dataset.dataset.ann_file=split.txt'], 'split.txt does not exist'),
        (['dataset.dataset.img_suffix=.tif'], 'has no file that ends in .tif'),
    ],
)
def test_missing_training_data(failure, config, options, sentence):
    options = [
        f'train_dataloader.{"dataset." * ("root" in option)}{option}'
        for option in options
    ]
    assert sentence in failure('train', config, '--cfg-options', *options)


def test_missing_validation_data_is_said_before_training(failure, config):
    error = failure(
        'train',
        config,
        '--cfg-options',
        'val_dataloader.dataset.data_root=nowhere',
    )
    assert 'of val_dataloader.dataset, or pass' in error
    assert not config.with_name('work_dirs').exists()


@pytest.mark.parametrize('part', ['train', 'val'])
def test_a_missing_label_is_said_before_training(failure, config, part):
    names = (config.parent / 'names.txt').absolute()
    names.write_text('0\n')
    (config.parent / 'data' / 'labels' / '1.png').unlink()
    key = 'train_dataloader.dataset' if part == 'val' else 'val_dataloader'
    error = failure(
        'train', config, '--cfg-options', f'{key}.dataset.ann_file={names}'
    )
    assert f'of the 4 files that {part}_dataloader' in error
    assert not config.with_name('work_dirs').exists()


def test_channels_are_checked_before_a_test(failure, config):
    error = failure(
        'test',
        config,
        config,
        '--cfg-options',
        'model.data_preprocessor.mean=[1,2]',
        'model.data_preprocessor.std=[1,2]',
    )
    assert 'mean has 2 values, but model.backbone takes in_chan' in error


def test_generated_data_need_not_exist(failure, config):

    @DATASETS.register_module(name='GeneratedDataset')
    class Generated(BaseSegDataset):
        generates_data = True

    options = [
        f'{name}.{key}'
        for name in (
            'train_dataloader.dataset.dataset',
            'val_dataloader.dataset',
        )
        for key in ('type=GeneratedDataset', 'data_root=nowhere')
    ]
    error = failure(
        'train',
        config,
        '--cfg-options',
        *options,
        'load_from=missing.pth',
    )
    del DATASETS.module_dict['GeneratedDataset']
    assert error == 'Error: the checkpoint missing.pth does not exist'


@pytest.mark.skipif(get_device() != 'cpu', reason='needs a machine without')
def test_amp_without_accelerator(failure, config):
    error = failure('train', config, '--amp')
    assert 'needs a GPU' in error


@pytest.mark.parametrize(
    'kind',
    [
        None,
        'OptimWrapper',
        'mmengine.OptimWrapper',
        'mmengine.optim.OptimWrapper',
        OptimWrapper,
        'mmengine.AmpOptimWrapper',
        AmpOptimWrapper,
    ],
)
def test_amp_knows_the_wrapper_by_its_class(kind):
    wrapper = dict(type=kind) if kind else {}
    enable_amp(wrapper)
    found = wrapper['type']
    assert found == 'AmpOptimWrapper' or found == kind
    assert wrapper['loss_scale'] == 'dynamic'
    with pytest.raises(UserError, match='the config has ApexOptimWrapper'):
        enable_amp(dict(type='ApexOptimWrapper'))


@pytest.mark.skipif(get_device() != 'cpu', reason='needs a machine without')
def test_processes_without_gpus(config):
    cfg = read_config(str(config))
    cfg.launcher = 'slurm'
    with pytest.raises(UserError, match='needs GPUs'):
        start_processes(cfg)
    cfg.launcher = 'pytorch'
    for kind in ('SyncBN', 'mmengine.SyncBN', nn.SyncBatchNorm):
        cfg.model.auxiliary_head = [dict(norm_cfg=dict(type=kind))]
        with pytest.raises(UserError, match='norms of type SyncBN'):
            start_processes(cfg)


def test_amp_with_another_wrapper(failure, config):
    error = failure(
        'train',
        config,
        '--amp',
        '--cfg-options',
        'optim_wrapper.type=ApexOptimWrapper',
    )
    assert 'the config has ApexOptimWrapper' in error


def test_parts_that_a_config_lacks(failure, config):
    error = failure(
        'test',
        config,
        'last.pth',
        '--cfg-options',
        'test_evaluator=None',
    )
    assert f'the config {config} has no test_evaluator' in error
    error = failure('train', config, '--cfg-options', 'train_cfg=None')
    assert f'the config {config} has no train_cfg' in error


@pytest.mark.run
@pytest.mark.parametrize(
    'tool, options',
    [
        ('train', []),
        ('train', ['--cfg-options', 'train_dataloader.num_workers=1']),
        ('test', []),
        ('test', ['--tta']),
    ],
)
def test_a_bad_label_is_named(failure, config, tool, options):
    label = config.parent / 'data' / 'labels' / '1.png'
    cv2.imwrite(str(label), np.full((32, 32), 7, dtype=np.uint8))
    files = [config] if tool == 'train' else [config, checkpoint_of(config)]
    error = failure(
        tool, *files, '--work-dir', config.parent / 'work', *options
    )
    assert error.startswith(
        f'Error: the label {label} has the values 7, but allowed are 0 to 1 '
        'and 255'
    )


def checkpoint_of(config):
    """A checkpoint of its model, beside the config."""
    init_default_scope('mmseg')
    weights = MODELS.build(read_config(str(config)).model).state_dict()
    torch.save(dict(state_dict=weights, meta={}), config.parent / 'a.pth')
    return config.parent / 'a.pth'


def test_missing_checkpoint_and_test_data(failure, config):
    error = failure('test', config, 'missing.pth')
    assert error == 'Error: the checkpoint missing.pth does not exist'
    error = failure(
        'test',
        config,
        config,
        '--cfg-options',
        'test_dataloader.dataset.data_root=nowhere',
    )
    assert 'nowhere does not exist' in error


def test_options_that_the_config_does_not_allow(failure, config):
    error = failure(
        'test',
        config,
        config,
        '--show-dir',
        'out',
        '--cfg-options',
        'default_hooks.visualization=None',
    )
    assert 'need a visualization hook' in error
    error = failure(
        'test',
        config,
        config,
        '--tta',
        '--cfg-options',
        'tta_model=None',
    )
    assert 'has no tta_model' in error


def test_error_of_a_worker_loses_its_traceback(capsys):
    text = (
        'Caught FileNotFoundError in DataLoader worker process 0.\n'
        'Original Traceback (most recent call last):\n'
        '  File "x.py", line 1, in f\n'
        "FileNotFoundError: [Errno 2] No such file: '/data/1.png'"
    )
    with pytest.raises(SystemExit), user_errors():
        raise FileNotFoundError(text)
    assert capsys.readouterr().err.startswith(
        "Error: [Errno 2] No such file: '/data/1.png': check the paths"
    )


FULL = 'free some space; what was written before is complete, and a training'
DENIED = 'check who may write there, or give another path'
PATH = 'check that path, or give another one'
BROKEN = 'look at the disk, or at the network to it; what was written before'


@pytest.mark.parametrize('origin', ['here', 'worker'])
@pytest.mark.parametrize(
    'name,sentence',
    [
        ('ENOSPC', FULL),
        ('EDQUOT', FULL),
        ('EFBIG', FULL),
        ('EACCES', DENIED),
        ('EPERM', DENIED),
        ('EROFS', DENIED),
        ('ENOTDIR', DENIED),
        ('EISDIR', PATH),
        ('ELOOP', PATH),
        ('ENAMETOOLONG', PATH),
        ('EXDEV', PATH),
        ('EBUSY', PATH),
        ('EIO', BROKEN),
        ('ESTALE', BROKEN),
        ('ENODEV', BROKEN),
        ('ETIMEDOUT', BROKEN),
        ('ENOTCONN', BROKEN),
        ('EMFILE', 'allow more open files, by ulimit -n'),
        ('ENOENT', 'check the paths in the config'),
    ],
)
def test_errors_of_the_file_system_are_one_sentence(
    capsys, name, sentence, origin
):
    """Those of a worker of a data loader come as text alone."""
    code = getattr(errno, name)
    with pytest.raises(SystemExit) as error, user_errors():
        try:
            raise OSError(code, os.strerror(code), 'a.pth')
        except OSError:
            if origin == 'here':
                raise
            ExceptionWrapper(where='in DataLoader worker process 0').reraise()
    # Which those who start it tell from other mistakes.
    assert error.value.code == Unavailable.status
    message = capsys.readouterr().err
    assert message.startswith(
        f"Error: [Errno {code}] {os.strerror(code)}: 'a.pth': {sentence}"
    )
    assert message.count('\n') == 1


@pytest.mark.parametrize('tool', ['train', 'test', 'decode'])
@pytest.mark.parametrize('kind', ['long', 'loop'])
def test_paths_that_no_file_system_takes(failure, config, tool, kind):
    name = config.with_name('x' * 300)
    if kind == 'loop':
        name = config.with_name('loop.pth')
        name.symlink_to(name)
    args = dict(
        train=[config, '--work-dir', name],
        test=[config, name],
        decode=[name],
    )
    error = failure(tool, *args[tool])
    assert str(name) in error


@pytest.mark.parametrize(
    'text, said',
    [
        ('DataLoader worker (pid 7) is killed by signal: Killed. ', 'Killed'),
        (
            'DataLoader worker (pid 7) is killed by signal: Bus error. It is '
            'possible that workers are out of shared memory.',
            'shared memory',
        ),
        ('DataLoader worker (pid(s) 7, 8) exited unexpectedly', 'exited une'),
    ],
)
def test_a_worker_that_the_system_killed(text, said):
    with pytest.raises(SystemExit) as error, user_errors():
        raise RuntimeError(text)
    message = error.value.code
    assert message.startswith('Error: DataLoader worker (pid')
    assert said in message and '\n' not in message
    assert message.endswith(
        ': the system ended it, most often for memory; lower num_workers of '
        'the data loader or free memory (of /dev/shm, too), and go on with '
        '--resume'
    )


@pytest.mark.run
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies_is_a_sentence(number):
    class Deadly(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            os.kill(os.getpid(), number)

    with pytest.raises(SystemExit, match='the system ended it'), user_errors():
        list(DataLoader(Deadly(), num_workers=1))


def test_a_worker_that_crashed_keeps_its_traceback():
    text = 'DataLoader worker (pid 7) is killed by signal: Segmentation fault'
    with pytest.raises(RuntimeError, match='Segm'), user_errors():
        raise RuntimeError(text)


def test_other_errors_of_the_system_keep_their_traceback():
    with pytest.raises(OSError, match='Connection reset'), user_errors():
        raise ConnectionResetError(errno.ECONNRESET, 'Connection reset')


def test_other_errors_keep_their_traceback():
    with pytest.raises(ValueError, match='a bug'), user_errors():
        raise ValueError('a bug')
    with pytest.raises(SystemExit, match='a mistake'), user_errors():
        raise UserError('a mistake')


def test_models_are_of_the_scope_of_the_config(failure):
    """Whatever was built in this process before."""
    init_default_scope('mmengine')
    config = ROOT / 'configs' / 'autodeeplab' / 'search_demo.py'
    option = 'model.decode_head.in_channels=[1,2,3,4]'
    error = failure('train', config, '--cfg-options', option)
    assert 'model.backbone gives [8, 16, 32, 64] channels' in error
