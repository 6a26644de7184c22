"""Checkpoints and architectures as the tools read them."""

import datetime
import os
import re
import zipfile
from pathlib import Path
from typing import Optional

from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from torch import nn

from ..arch import Architecture, decode
from ..errors import UserError, one_line
from ..search import config_text
from .configs import read_config

# What every search has.
KEYS = ('model.backbone', 'model.decode_head', 'train_dataloader.dataset')


def read_checkpoint(path: str, bare: bool = False) -> dict:
    """Load a checkpoint of MMEngine, with a ``state_dict``, onto the CPU.

    ``bare`` weights may do instead, as for ``load_from`` of a config. Raises a
    :class:`UserError` where it is missing, cannot be read, or is none.
    """
    if '://' not in path and not Path(path).expanduser().is_file():
        raise UserError(f'the checkpoint {path} does not exist')
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
    if bare:
        return checkpoint
    weights = checkpoint.get('state_dict')
    if not isinstance(weights, dict) or {*map(type, weights)} - {str}:
        wrong = 'it has no state_dict'
    elif not isinstance(checkpoint.get('meta', {}), dict):
        wrong = 'its meta is no dict'
    else:
        return checkpoint
    raise UserError(
        f'{path} is not a checkpoint of MMEngine, since {wrong}; give an '
        'iter_*.pth that tools/train.py wrote'
    )


def check_weights(model: nn.Module, path: str, weights: dict) -> None:
    """Raise a :class:`UserError` unless weights are all those of a model.

    MMEngine itself would warn, and go on with random ones in their place.
    """
    while hasattr(model, 'module'):  # As for --tta.
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


def latest_checkpoint(folder: str) -> tuple[Optional[str], list[str]]:
    """The newest complete checkpoint, and newer ones that are not complete.

    MMEngine's ``last_checkpoint`` is not read: after a kill it may be empty,
    absent, or name a file that is incomplete or gone.
    """
    files = [
        str(file)
        for file in Path(folder).glob('*.pth')
        if re.fullmatch(r'(iter|epoch)_\d+', file.stem)
    ]
    # By time: iterations may be of an earlier, longer run.
    files.sort(key=os.path.getmtime, reverse=True)
    for i, file in enumerate(files):
        try:  # The directory of the archive is its end.
            zipfile.ZipFile(file).close()
        except zipfile.BadZipFile:
            continue
        return file, files[:i]
    return None, files


def resume_latest(cfg: Config) -> list[str]:
    """Have a config resume the newest checkpoint; returns what was found.

    A seed that it leaves open becomes that of the checkpoint before the data
    is shuffled by another.
    """
    folder = cfg.work_dir
    hook = cfg.get('default_hooks', {}).get('checkpoint') or {}
    if hook.get('out_dir'):  # As CheckpointHook puts them together.
        folder = Path(hook['out_dir'], Path(folder).name)
    file, broken = latest_checkpoint(folder)
    notices = [f'{name} is not complete and is left out.' for name in broken]
    cfg.resume = file is not None
    if not cfg.resume:
        notice = 'No checkpoint to resume from in {}: the run starts anew.'
        return [*notices, notice.format(folder)]
    cfg.load_from = file
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None:
        seed = read_checkpoint(file)['meta'].get('seed')
        cfg.randomness = dict(randomness, seed=seed)
    return [*notices, f'Resuming from {file}.']


def read_architecture(
    file: str, config: Optional[str] = None
) -> tuple[Architecture, Optional[Config]]:
    """Read an ``architecture.json``, or decode a checkpoint of a search.

    Returned with it is the config of a search: the file ``config``, which is
    run, or that of the checkpoint, which is read and never run.
    """
    search = None
    if config:
        search = read_config(config)
        _check_search(search, f'the config {config}')
    if file.endswith('.json'):
        return Architecture.load(file), search
    checkpoint = read_checkpoint(file)
    try:
        alphas, betas = (
            checkpoint['state_dict'][f'backbone.{name}'].float().numpy()
            for name in ('alphas', 'betas')
        )
        iteration = int(checkpoint['meta']['iter'])
        text = str(checkpoint['meta']['cfg'])
    except Exception as error:  # Anything may stand there.
        raise UserError(
            f'{file} is not the checkpoint of a search ({one_line(error)}); '
            'give an iter_*.pth that tools/train.py wrote with a search config'
        ) from error
    try:
        if search is None:
            search = config_text.read_config(text, 'its config')
            _check_search(search, 'its config')
            config_text.check_names(search, 'its config')
    except UserError as error:
        raise UserError(
            f'{file}: {error}; give the config that the search was started '
            'with by --config, if you trust it'
        ) from error
    try:
        architecture = decode(alphas, betas)
    except ValueError as error:
        raise UserError(f'{file}: {error}') from error
    now = datetime.datetime.now().isoformat(timespec='seconds')
    return architecture.with_provenance(
        checkpoint=Path(file).name, iteration=iteration, date=now
    ), search


def _check_search(cfg, name):
    for key in KEYS:
        if not isinstance(config_text.look_up(cfg, key), dict):
            raise UserError(
                f'{name} is not the config of a search, since it has no {key}'
            )
