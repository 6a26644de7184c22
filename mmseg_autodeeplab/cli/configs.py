"""Options of the tools, and the config that they make."""

import argparse
import atexit
import gc
import os
import re
from pathlib import Path

from mmengine import config as of_mmengine
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS, OPTIM_WRAPPERS
from torch import distributed, nn

from ..compat.registry import is_a, resolve
from ..errors import UserError


class DictAction(of_mmengine.DictAction):
    """MMEngine's, but for spaces, all of which that takes out of a value.

    Here they stay, but for those around a value or an element of a list. What
    cannot be read is an error of the command line.
    """

    def __call__(self, parser, namespace, values, option_string=None):
        """Hide spaces in what cannot be in an argument, and show them."""
        inner = r'(?<![\s,([]) +(?![\s,)\]])'
        hidden = []
        for key, sign, value in (text.partition('=') for text in values):
            value = re.sub(inner, lambda m: '\0' * len(m[0]), value.strip())
            hidden.append(key + sign + value)
        try:
            super().__call__(parser, namespace, hidden, option_string)
        except (AssertionError, ValueError) as error:
            raise argparse.ArgumentError(
                self, f'{" ".join(values)} is not KEY=VALUE ({error})'
            ) from error
        options = getattr(namespace, self.dest)
        setattr(namespace, self.dest, _replaced(options, '\0', ' '))


def _replaced(value, old, new):
    if isinstance(value, dict):
        return {key: _replaced(x, old, new) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_replaced(x, old, new) for x in value)
    return value.replace(old, new) if isinstance(value, str) else value


def add_arguments(parser: argparse.ArgumentParser, run: bool = False) -> None:
    """Add the config and its options, and those of a run, to a parser."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='override settings of the config; lists as KEY="[a,b]" or '
        'KEY=a,b, nested ones as KEY="[(a,b),(c,d)]"; a path with spaces as '
        'KEY="a path"',
    )
    if not run:
        return
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # Some launchers pass it as an option, others as a variable.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config of a tool and override it by the tool's options.

    Its scope is that of all that is built from now on, as in a runner.
    """
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    if cfg.get('model') and cfg.get('data_preprocessor'):
        # As the runner does, for tools and wrappers that build the model.
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    if 'launcher' in args:
        cfg.launcher = args.launcher
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
        default = f'work_dirs/{Path(args.config).stem}'
        cfg.work_dir = args.work_dir or cfg.get('work_dir') or default
    return cfg


def read_config(file: str, options: dict = {}) -> Config:
    """Read a config and override it by ``options``, whose keys have dots."""
    if not Path(file).is_file():
        raise UserError(f'the config {file} does not exist')
    try:
        cfg = Config.fromfile(file)
        cfg.merge_from_dict(options)
    except ImportError:  # Of a custom import: says itself where it fails.
        raise
    except Exception as error:  # A config is code: anything may go wrong.
        raise UserError(
            f'cannot read the config {file}: {type(error).__name__}: {error}'
        ) from error
    return cfg


def start_processes(cfg: Config) -> None:
    """Let the processes of a launcher compute where there is no GPU.

    MMEngine's launchers and its wrapper of the model choose one. Here the
    processes are joined before, by gloo, which MMEngine then finds done.
    """
    if cfg.launcher == 'none' or get_device() != 'cpu':
        return
    if cfg.launcher != 'pytorch':
        raise UserError(
            f'--launcher {cfg.launcher} needs GPUs, and none is available: '
            'use --launcher pytorch, as tools/dist_*.sh do, or none'
        )
    if _has_sync_norm(cfg.model):
        raise UserError(
            'the model has norms of type SyncBN, which PyTorch has for GPUs '
            'alone, and none is available: set the type of each norm_cfg to '
            'BN, or use one process without a launcher'
        )
    if not distributed.is_initialized():
        distributed.init_process_group('gloo')
        atexit.register(_leave_processes)
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
        device_ids=None,  # MMEngine's own, but for this.
    ) | dict(cfg.get('model_wrapper_cfg') or {})


def _leave_processes():
    """Join the threads of gloo, one of which may abort a process at its end.

    The last who refers to the group joins them. A model, in a cycle with its
    runner, would do so with the interpreter locked, for which a thread that
    has still to drop a tensor waits: so the model goes before the group.
    """
    if distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()


def _has_sync_norm(model):
    if isinstance(model, dict):
        if is_a(MODELS, model, nn.SyncBatchNorm):
            return True
        model = list(model.values())
    return isinstance(model, (list, tuple)) and any(map(_has_sync_norm, model))


def check_keys(cfg: Config, *keys: str) -> None:
    """Raise a :class:`UserError` where a config lacks one of the keys."""
    for key in keys:
        if cfg.get(key) is None:
            raise UserError(
                f'the config {cfg.filename} has no {key}, which is needed here'
            )


def check_evaluation(cfg: Config) -> None:
    """Raise a :class:`UserError` where validation or test is half there."""
    for part in ('val', 'test'):
        keys = [f'{part}_{key}' for key in ('dataloader', 'evaluator', 'cfg')]
        given = [key for key in keys if cfg.get(key) is not None]
        missing = [key for key in keys if key not in given]
        if given and missing:
            raise UserError(
                f'the config {cfg.filename} has {" and ".join(given)} but no '
                f'{" and no ".join(missing)}: give all three, or set all '
                'three to None'
            )


def enable_amp(optim_wrapper: dict) -> None:
    """Turn the config of an ``OptimWrapper``, no other, into that of AMP."""
    kind = optim_wrapper.get('type', 'OptimWrapper')  # As MMEngine has it.
    if resolve(OPTIM_WRAPPERS, kind) is OptimWrapper:
        optim_wrapper['type'] = 'AmpOptimWrapper'
    elif not is_a(OPTIM_WRAPPERS, optim_wrapper, AmpOptimWrapper):
        raise UserError(
            '--amp works with the optimizer wrapper OptimWrapper, but the '
            f'config has {kind}'
        )
    optim_wrapper.setdefault('loss_scale', 'dynamic')


def check_amp(cfg: Config) -> None:
    """Raise a :class:`UserError` where mixed precision lacks its GPU."""
    amp = is_a(OPTIM_WRAPPERS, cfg.optim_wrapper, AmpOptimWrapper)
    if amp and get_device() in ('cpu', 'mps'):
        raise UserError(
            'mixed precision (--amp) needs a GPU, and none is available: '
            'train without it'
        )
