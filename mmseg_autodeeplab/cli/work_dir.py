"""The work directory of a run: its own, and of no other."""

import datetime
import os
import re
import socket
import tempfile
import warnings
from pathlib import Path

from mmengine.config import Config

from ..engine import REPLACES
from ..errors import Occupied, Unavailable, UserError
from ..search.history import ARCHITECTURE_FILE, HISTORY_FILE
from .checkpoints import (
    checkpoint_folder,
    checkpoint_hook,
    place_of,
    resume_from,
    resume_latest,
)

try:
    import fcntl
except ImportError:  # Of Windows.
    fcntl = None

# What a run leaves behind, besides its checkpoints and its config.
RUN_FILES = (
    re.escape(ARCHITECTURE_FILE),
    r'architecture_\d{8}_\d{6}\.json',  # as earlier versions renamed it
    re.escape(HISTORY_FILE),
    'last_checkpoint',
    'search_report.html',
    r'\d{8}_\d{6}',  # of logs
)
# What a kill leaves of a file that is being written.
TORN = re.compile(r'(.+)\.[0-9a-f]{8}\.tmp')
# Where launchers tell a process its number.
RANKS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')


def check_work_dir(folder: str) -> None:
    """Make the working directory, and raise unless it can be written to."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b'0')
    except OSError as error:
        raise Unavailable(
            f'nothing can be written to the work dir {folder} '
            f'({error.strerror}): free some space, or give another --work-dir'
        ) from error


def open_work_dir(cfg: Config, resume: bool) -> list[str]:
    """Make the work directory that of one run, before the runner is built.

    Another training at the same time is refused, as a :class:`UserError`. The
    config is made to resume, the newest checkpoint if ``resume``. What an
    earlier run has left, and this one does not go on from, is set aside. Of
    several processes the first does so; the others meet it in the runner.

    Returns:
        list[str]: What to tell the user.
    """
    folders = sorted({cfg.work_dir, checkpoint_folder(cfg)})
    is_first = not int(os.environ.get(RANKS.get(cfg.launcher, ''), 0))
    notices = []
    for folder in folders:
        check_work_dir(folder)
        if is_first:
            _lock(folder)
    checkpoint = {}
    if resume or (cfg.get('resume') and not cfg.get('load_from')):
        checkpoint, found = resume_latest(cfg)
        notices += found
    elif cfg.get('resume'):
        checkpoint = resume_from(cfg, cfg.load_from)
    last = None
    if checkpoint and _path(cfg.load_from).parent in map(_path, folders):
        last = _number(cfg, checkpoint)
    if is_first:
        for folder in folders:
            notices += _clear(folder, cfg, checkpoint, last)
    return notices


def _lock(folder):
    """Hold a folder until the process ends, however it ends."""
    if fcntl is None:
        return
    # A POSIX lock, which children do not inherit: workers that outlive a
    # killed run do not hold it. The handle stays open, since it goes with it.
    file = os.path.join(folder, '.lock')
    handle = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (PermissionError, BlockingIOError):
        holder = os.read(handle, 200).decode(errors='replace')
        raise Occupied(
            f'another training ({holder}) is running in {folder}: wait for '
            f'its end, or give another --work-dir; remove {file} only if that '
            'machine is gone'
        ) from None
    except OSError as error:  # Of a file system without locks.
        warnings.warn(
            f'{folder} cannot be locked ({error.strerror}): see to it that no '
            'other training runs in it',
            stacklevel=2,
        )
    else:
        holder = f'process {os.getpid()} on {socket.gethostname()}'
        os.truncate(handle, 0)
        os.write(handle, holder.encode())


def _number(cfg, checkpoint):
    """How far the run that is resumed had come, as its names count it."""
    hook = checkpoint_hook(cfg)
    if place := place_of(Path(cfg.load_from).name, hook):
        return place.number
    by_epoch = hook.get('by_epoch', True)  # As CheckpointHook has it.
    return checkpoint['meta']['epoch' if by_epoch else 'iter']


def _clear(folder, cfg, checkpoint, last):
    """Set aside all of an earlier run, or what is beyond the number ``last``.

    What was incomplete or replaced when the run was killed is removed.
    """
    hook, names = checkpoint_hook(cfg), []
    for name in sorted(os.listdir(folder)):
        file, place = Path(folder, name), place_of(name, hook)
        torn = TORN.fullmatch(name)
        if torn and (torn[1] == ARCHITECTURE_FILE or place_of(torn[1], hook)):
            file.unlink()
        elif last is None:
            if place or _is_of_a_run(file, cfg):
                names.append(name)
        elif place and place.number > last:
            names.append(name)
        elif place and name in checkpoint.get(REPLACES, ()):
            file.unlink()
    if not names:
        return []
    for used in _strings(cfg.to_dict()):
        if {_path(folder, name) for name in names} & {
            _path(used),
            *_path(used).parents,
        }:
            raise UserError(
                f'{used} is of an earlier run in {folder}, whose files are '
                'set aside when another starts: give another --work-dir'
            )
    now = datetime.datetime.now()
    while (aside := Path(folder, f'earlier_{now:%Y%m%d_%H%M%S}')).exists():
        now += datetime.timedelta(seconds=1)
    aside.mkdir()
    # Checkpoints first, in case that this is interrupted and resumed.
    for name in sorted(names, key=lambda name: place_of(name, hook) is None):
        os.rename(os.path.join(folder, name), aside / name)
    what = f'What an earlier run left in {folder} is'
    if last is not None:
        what = 'Checkpoints beyond the one that is resumed are'
    return [f'{what} now in {aside}.']


def _is_of_a_run(file, cfg):
    if any(re.fullmatch(pattern, file.name) for pattern in RUN_FILES):
        return True
    # MMEngine writes the config under its name, and may read it there.
    config = Path(cfg.filename or '')
    return file.name == config.name and _path(file) != _path(config)


def _strings(value):
    """All strings within a config."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value


def _path(*parts):
    return Path(os.path.abspath(os.path.join(*parts)))
