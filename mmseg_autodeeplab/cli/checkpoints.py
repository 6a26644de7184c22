"""Checkpoints and architectures as the tools read them."""

import datetime
import os
import re
from pathlib import Path
from typing import NamedTuple, Optional

from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from torch import nn

from ..arch import Architecture, decode, disagreement
from ..errors import UserError, one_line
from ..search import config_text
from ..search.blackbox import CONFIG_FILE, read_results
from ..search.results import search_score
from .configs import read_config

# What every search has.
KEYS = ('model.backbone', 'model.decode_head', 'train_dataloader.dataset')
TRUSTED = (
    'give the config that the search was started with by --config, if you '
    'trust it'
)
# What every message hub has.
MESSAGE_HUB = {'log_scalars', 'runtime_info', 'resumed_keys'}


def read_checkpoint(path: str, bare: bool = False) -> dict:
    """Load a checkpoint of MMEngine, with a ``state_dict``, onto the CPU.

    ``bare`` weights may do instead, as for ``load_from`` of a config. Raises a
    :class:`UserError` where it is missing, cannot be read, or is none.
    """
    if '://' not in path and not Path(path).expanduser().is_file():
        wrong = 'is no file' if os.path.lexists(path) else 'does not exist'
        raise UserError(f'the checkpoint {path} {wrong}')
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


class Place(NamedTuple):
    """What the name of a checkpoint says."""

    number: int  # iterations or epochs done
    is_regular: bool  # not the best one, nor one to publish


def place_of(name: str, hook: dict) -> Optional[Place]:
    """Read the name of a file; None if it is not one of a ``CheckpointHook``.

    ``hook`` is the config of the hook.
    """
    for template in ('iter_{}.pth', 'epoch_{}.pth', hook.get('filename_tmpl')):
        pattern = re.escape(template or '').replace(
            r'\{\}', r'(\d+)(-[0-9a-f]{8})?'
        )
        if found := re.fullmatch(f'(best_.+_)?{pattern}', name):
            best, number, published = found.groups()
            return Place(int(number), not best and not published)
    return None


def checkpoint_hook(cfg: Config) -> dict:
    """The config of the ``CheckpointHook``, where there is one."""
    return cfg.get('default_hooks', {}).get('checkpoint') or {}


def checkpoint_folder(cfg: Config) -> str:
    """Where the ``CheckpointHook`` saves: the work dir, or in ``out_dir``."""
    out_dir = str(checkpoint_hook(cfg).get('out_dir') or '')
    if out_dir in ('', os.path.abspath(cfg.work_dir)) or '://' in out_dir:
        return cfg.work_dir
    # As CheckpointHook puts them together.
    return os.path.join(out_dir, Path(cfg.work_dir).name)


def resume_from(cfg: Config, file: str, with_optimizer: bool = False) -> dict:
    """Have a config resume a checkpoint, which is returned.

    A seed that the config leaves open becomes that of the checkpoint, before
    the data is shuffled by another. What cannot be resumed is a
    :class:`UserError`.
    """
    checkpoint = read_checkpoint(file)
    meta, hub = checkpoint.get('meta', {}), checkpoint.get('message_hub')
    has = {
        'iter': isinstance(meta.get('iter'), int),
        'epoch': isinstance(meta.get('epoch'), int),
        'message_hub': isinstance(hub, dict) and {*hub} >= MESSAGE_HUB,
        'optimizer': not with_optimizer or 'optimizer' in checkpoint,
    }
    if not all(has.values()):
        missing = [key for key, value in has.items() if not value]
        raise UserError(
            f'{file} cannot be resumed, since it has no '
            f'{" and no ".join(missing)}; start from its weights by load_from '
            'without resume'
        )
    cfg.update(resume=True, load_from=file)
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None:
        cfg.randomness = dict(randomness, seed=meta.get('seed'))
    return checkpoint


def resume_latest(cfg: Config) -> tuple[dict, list[str]]:
    """Have a config resume the newest intact checkpoint, if there is one.

    The newest is the one of most iterations, since a work directory holds one
    run. MMEngine's ``last_checkpoint`` is not read: after a kill it may be
    empty, absent, or name a file that is damaged or gone.

    Returns:
        tuple: The checkpoint, empty without one, and what to tell the user.
    """
    folder, hook = checkpoint_folder(cfg), checkpoint_hook(cfg)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    places = {name: place_of(name, hook) for name in names}
    found = sorted((p, name) for name, p in places.items() if p)
    notices = []
    for place, name in reversed(found):
        if not place.is_regular:
            continue
        file = os.path.join(folder, name)
        try:
            saved = hook.get('save_optimizer', True)
            checkpoint = resume_from(cfg, file, with_optimizer=saved)
        except (UserError, OSError) as error:
            notices.append(f'Left out: {error}.')
        else:
            return checkpoint, [*notices, f'Resuming from {file}.']
    cfg.resume = False
    notices.append(
        f'No checkpoint to resume from in {folder}: the run starts anew.'
    )
    if best := [name for place, name in found if name.startswith('best_')]:
        notices.append(
            f'{best[-1]} has weights alone, which load_from without resume '
            'starts from.'
        )
    return {}, notices


def read_architecture(
    file: str, config: Optional[str] = None, score: Optional[str] = None
) -> tuple[Architecture, Optional[Config], str]:
    """Read an ``architecture.json``, or decode a checkpoint of a search.

    Returned with it is the config of a search: the file ``config``, which is
    run, or that of the checkpoint, which is read and never run. Last comes
    what :func:`.arch.disagreement` says. ``score`` is that of the search by
    default.
    """
    search = None
    if config:
        search = read_config(config)
        _check_search(search, f'the config {config}')
    if file.endswith('.json'):
        return Architecture.load(file), search, ''
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
        raise UserError(f'{file}: {error}; {TRUSTED}') from error
    try:
        score = score or search_score(search)
        architecture = decode(alphas, betas, score)
    except ValueError as error:
        raise UserError(f'{file}: {error}') from error
    now = datetime.datetime.now().isoformat(timespec='seconds')
    architecture = architecture.with_provenance(
        checkpoint=Path(file).name, iteration=iteration, date=now, score=score
    )
    return architecture, search, disagreement(betas, score)


def read_study(
    work_dir: str, config: Optional[str] = None
) -> tuple[list[Architecture], Config]:
    """Read what a black-box search has found, from the best, and its config.

    As in :func:`read_architecture`, the file ``config`` is run, and what
    stands in the work directory is read.
    """
    found = [
        result.architecture.with_provenance(rewards=result.rewards)
        for result in read_results(work_dir)
        if result.state == 'complete'
    ]
    if not found:
        raise UserError(
            f'{work_dir} holds no finished trial: give the work directory of '
            'tools/search.py, or one of its architecture.json'
        )
    if config:
        return found, read_config(config)
    file = str(Path(work_dir, CONFIG_FILE))
    try:
        search = config_text.read_config_file(file)
        # Samplers of Optuna are in no registry, and none is built here.
        used = {k: v for k, v in search.items() if k != 'search'}
        config_text.check_names(Config(used), file)
    except UserError as error:
        raise UserError(f'{error}; {TRUSTED}') from error
    return found, search


def _check_search(cfg, name):
    for key in KEYS:
        if not isinstance(config_text.look_up(cfg, key), dict):
            raise UserError(
                f'{name} is not the config of a search, since it has no {key}'
            )
