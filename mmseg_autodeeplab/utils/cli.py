"""What the command line tools share: options, configs, errors."""

import errno
import inspect
import os
import os.path as osp
import tempfile
from contextlib import contextmanager

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.runner import CheckpointLoader
from mmengine.utils import scandir
from mmseg.registry import DATASETS
from torch import distributed

from ..errors import UserError, one_line

# What to do about errors of the file system.
_FULL = (
    'free some space; what was written before is complete, and a training '
    'goes on from its last checkpoint with --resume'
)
_DENIED = 'check who may write there, or give another path'
_WAYS_OUT = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: _DENIED,
    errno.EEXIST: _DENIED,
    errno.ENOTDIR: _DENIED,
}


@contextmanager
def user_errors():
    """Print a user's mistake as one sentence and exit with status 1.

    :class:`UserError` and ``FileNotFoundError`` are such, a full disk and
    what must not be written; every other exception keeps its traceback. Works
    as a decorator too.
    """
    try:
        yield
    except UserError as error:
        raise SystemExit(f'Error: {_sentence(error)}') from None
    except FileNotFoundError as error:
        raise SystemExit(
            f'Error: {_sentence(error)}: check the paths in the config, or '
            'set them with --cfg-options'
        ) from None
    except OSError as error:
        if error.errno not in _WAYS_OUT:
            raise
        raise SystemExit(
            f'Error: {_sentence(error)}: {_WAYS_OUT[error.errno]}'
        ) from None


def _sentence(error):
    text = str(error)
    if 'Traceback (most recent call last)' in text:
        # From a worker of a data loader: "Error: " ends the type's name.
        text = text.strip().splitlines()[-1].partition('Error: ')[2]
    return ' '.join(text.split()).rstrip('.')


def add_config_arguments(parser):
    """Add ``config`` and ``--cfg-options`` to a parser."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='override settings of the config; lists as KEY="[a,b]" or '
        'KEY=a,b, nested ones as KEY="[(a,b),(c,d)]", without spaces',
    )


def add_runner_arguments(parser):
    """Add ``--work-dir``, ``--launcher`` and ``--local-rank`` to a parser."""
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # Some launchers pass it as an option, others as a variable.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_config(args):
    """Read the config of a tool and override it by its options.

    Args:
        args (argparse.Namespace): What :func:`add_config_arguments` and
            maybe :func:`add_runner_arguments` added. The working directory
            is that of the option, else that of the config, else
            ``work_dirs/`` plus the name of the config.

    Returns:
        Config: The config.

    Raises:
        UserError: The config is missing or broken.
    """
    if not osp.isfile(args.config):
        raise UserError(f'the config {args.config} does not exist')
    try:
        cfg = Config.fromfile(args.config)
        cfg.merge_from_dict(args.cfg_options)
    except ImportError:  # Of a custom import: says itself where it fails.
        raise
    except Exception as error:  # A config is code: anything may go wrong.
        raise UserError(
            f'cannot read the config {args.config}: '
            f'{type(error).__name__}: {error}'
        ) from error
    if 'launcher' in args:
        cfg.launcher = args.launcher
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
        cfg.work_dir = (
            args.work_dir
            or cfg.get('work_dir')
            or osp.join(
                'work_dirs', osp.splitext(osp.basename(args.config))[0]
            )
        )
    return cfg


def start_processes(cfg):
    """Let the processes of a launcher compute where there is no GPU.

    MMEngine's launchers and its wrapper of the model choose one. Here the
    processes are joined before, by gloo, which MMEngine then finds done.

    Args:
        cfg (Config): The config; gets a ``model_wrapper_cfg``.

    Raises:
        UserError: The launcher is another one than ``'pytorch'``, or the
            model has SyncBN.
    """
    if cfg.launcher == 'none' or get_device() != 'cpu':
        return
    if cfg.launcher != 'pytorch':
        raise UserError(
            f'--launcher {cfg.launcher} needs GPUs, and none is available: '
            'use --launcher pytorch, as tools/dist_*.sh do, or none'
        )
    if 'SyncBN' in str(cfg.model):
        raise UserError(
            'the model has norms of type SyncBN, which PyTorch has for GPUs '
            'alone, and none is available: set the type of each norm_cfg to '
            'BN, or use one process without a launcher'
        )
    if not distributed.is_initialized():
        distributed.init_process_group('gloo')
    wrapper = dict(  # MMEngine's own, but for the last.
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
        device_ids=None,
    )
    cfg.model_wrapper_cfg = dict(wrapper, **cfg.get('model_wrapper_cfg') or {})


def check_keys(cfg, *keys):
    """Raise a :class:`UserError` where a config lacks one of the keys."""
    for key in keys:
        if cfg.get(key) is None:
            raise UserError(
                f'the config {cfg.filename} has no {key}, which is needed here'
            )


def check_evaluation(cfg):
    """Raise a :class:`UserError` where validation or test is half there."""
    for part in ('val', 'test'):
        keys = [f'{part}_{key}' for key in ('dataloader', 'evaluator', 'cfg')]
        given = [key for key in keys if cfg.get(key) is not None]
        if given and len(given) < len(keys):
            missing = [key for key in keys if key not in given]
            raise UserError(
                f'the config {cfg.filename} has {" and ".join(given)} but no '
                f'{" and no ".join(missing)}: give all three, or set all '
                'three to None'
            )


def enable_amp(optim_wrapper):
    """Turn the optimizer wrapper of a config into that of mixed precision."""
    kind = optim_wrapper.get('type')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(
            '--amp works with the optimizer wrapper OptimWrapper, '
            f'but the config has {kind}'
        )
    optim_wrapper.type = 'AmpOptimWrapper'
    optim_wrapper.setdefault('loss_scale', 'dynamic')


def check_checkpoint(path):
    """Raise a :class:`UserError` where a local checkpoint does not exist."""
    if '://' not in path and not osp.isfile(osp.expanduser(path)):
        raise UserError(f'the checkpoint {path} does not exist')


def check_work_dir(folder):
    """Make the working directory, and write to it.

    Raises:
        UserError: That is not possible.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b'0')
    except OSError as error:
        raise UserError(
            f'nothing can be written to the work dir {folder} '
            f'({error.strerror}): free some space, or give another --work-dir'
        ) from error


def load_weights(path):
    """Load what MMEngine takes for ``load_from`` onto the CPU.

    Args:
        path (str): Path or address of the file.

    Returns:
        dict: A checkpoint, or weights alone.

    Raises:
        UserError: It is missing, or cannot be read as one.
    """
    check_checkpoint(path)
    try:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except UserError:
        raise
    except Exception as error:  # Broken archives and pickles raise anything.
        raise UserError(
            f'{path} cannot be read as a checkpoint ({one_line(error)})'
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(
            f'{path} is not a checkpoint, since it holds a '
            f'{type(checkpoint).__name__} where a dict should be'
        )
    return checkpoint


def read_checkpoint(path):
    """Load a checkpoint of MMEngine onto the CPU.

    Args:
        path (str): Path or address of the checkpoint.

    Returns:
        dict: The checkpoint; it has a ``state_dict`` and, if any, a ``meta``
        that are dicts.

    Raises:
        UserError: It is missing, cannot be read, or is none.
    """
    checkpoint = load_weights(path)
    weights = checkpoint.get('state_dict')
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) for name in weights
    ):
        raise UserError(
            f'{path} is not a checkpoint of MMEngine, since it has no '
            'state_dict; give an iter_*.pth that tools/train.py wrote'
        )
    if not isinstance(checkpoint.get('meta', {}), dict):
        raise UserError(
            f'{path} is not a checkpoint of MMEngine, since its meta is no '
            'dict; give an iter_*.pth that tools/train.py wrote'
        )
    return checkpoint


def check_weights(model, path, weights):
    """Raise a :class:`UserError` unless weights are all those of a model.

    MMEngine itself would warn, and go on with random ones in their place.

    Args:
        model (nn.Module): The model, maybe in wrappers; the weights are
            loaded into it.
        path (str): Where they come from, for the message.
        weights (dict): The weights by name; others are ignored.
    """
    while hasattr(model, 'module'):
        model = model.module
    weights = {k.removeprefix('module.'): v for k, v in weights.items()}
    try:
        missing = model.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError as error:
        raise UserError(
            f'{path} does not fit the model of the config ({one_line(error)})'
        ) from error
    # As MMEngine does: a count that batch norm may lack.
    missing = [key for key in missing if 'num_batches_tracked' not in key]
    if missing:
        raise UserError(
            f'{path} does not fit the model of the config, since it lacks '
            f'{len(missing)} of its weights, {missing[0]} for one'
        )


def check_data(cfg, *parts):
    """Look for the data before anything is built.

    MMEngine builds the validation set when training is about to start, reads
    labels when it needs them, and waits forever for an image of an empty
    folder.

    Args:
        cfg (Config): The config.
        parts (str): Which of ``'train'``, ``'val'`` and ``'test'``. The test
            part may lack its labels.

    Raises:
        UserError: A folder or file is missing, or a folder has no image.
    """
    for part in parts:
        loader = cfg.get(f'{part}_dataloader')
        if loader is not None:
            for key, dataset in _datasets(
                loader.dataset, f'{part}_dataloader.dataset'
            ):
                _check_dataset(dataset, key, labels=part != 'test')


def _datasets(dataset, key):
    """Yield the datasets within wrappers, and their keys in the config."""
    if 'datasets' in dataset:
        for i, inner in enumerate(dataset['datasets']):
            yield from _datasets(inner, f'{key}.datasets.{i}')
    elif 'dataset' in dataset:
        yield from _datasets(dataset['dataset'], f'{key}.dataset')
    else:
        yield key, dataset


def _check_dataset(dataset, key, labels):
    cls = dataset['type']
    if isinstance(cls, str):
        cls = DATASETS.get(cls)  # None is for the runner to complain about.
    backend = (dataset.get('backend_args') or {}).get('backend', 'local')
    if backend != 'local' or getattr(cls, 'generates_data', False):
        return
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix') or {}
    paths = [root, osp.join(root, dataset.get('ann_file') or '')] + [
        osp.join(root, path)
        for name, path in prefix.items()
        if path is not None and (labels or name.startswith('img'))
    ]
    for path in paths:
        if path and '://' not in path and not osp.exists(path):
            raise UserError(
                f'{path} does not exist: check data_root and data_prefix of '
                f'{key}, or pass --cfg-options {key}.data_root=FOLDER'
            )

    ann_file = osp.join(root, dataset.get('ann_file') or '')
    if osp.isfile(ann_file):
        with open(ann_file, 'rb') as file:
            if not file.read().strip():
                raise UserError(
                    f'{ann_file} lists no image: check ann_file of {key}'
                )

    images = prefix.get('img_path')
    suffix = dataset.get('img_suffix') or _default(cls, 'img_suffix')
    if images is None or suffix is None or dataset.get('ann_file'):
        return
    images = osp.join(root, images)
    if (
        '://' not in images
        and next(scandir(images, suffix, recursive=True), None) is None
    ):
        raise UserError(
            f'{images} has no file that ends in {suffix}: check '
            f'data_root, data_prefix and img_suffix of {key}'
        )


def _default(cls, name):
    parameter = inspect.signature(cls).parameters.get(name) if cls else None
    return parameter and parameter.default
