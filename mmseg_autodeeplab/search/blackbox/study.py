"""The study that all workers share, in a storage of Optuna."""

import inspect
import json
import os.path as osp
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Optional

import numpy as np
from mmengine.config import Config
from mmseg.registry import TASK_UTILS

from ...arch.architecture import short
from ...compat.registry import named, resolve
from ...errors import UserError, one_line
from ...files import locked, open_text, to_json, write_atomically
from .results import TRIALS_FOLDER
from .settings import Settings

try:
    import optuna
except ImportError as error:
    raise UserError(
        'a black-box search needs Optuna, which is not installed: '
        'pip install "optuna>=4.9,<6"'
    ) from error
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

SAMPLERS = {'UniformSampler', 'NearBestSampler', 'ControllerSampler'}
ATTEMPTS = 3  # since two workers may make the tables at the same time
SQLITE_TIMEOUT = 60  # seconds
ID = 'id'  # of a study: an attribute, and in a file of its work directory
ID_FILE = 'study_id'
# All of a config that rewards depend on, but for some that change none.
OF_SEARCH = ('space', 'reward', 'limit', 'penalty', 'stages', 'seed')
OF_CONFIG = (
    'model',
    'data_preprocessor',
    'train_dataloader',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'auto_scale_lr',
    'val_dataloader',
    'val_cfg',
    'val_evaluator',
    'custom_hooks',
    'load_from',
    'randomness',
)
# As each machine has them.
OF_MACHINE = (
    'data_root',
    'num_workers',
    'persistent_workers',
    'prefetch_factor',
)


def alone(work_dir: str) -> AbstractContextManager:
    """Let no two workers that share a folder choose at the same time."""
    return locked(osp.join(work_dir, 'workers', 'study.lock'))


def open_study(
    name: str,
    cfg: Config,
    settings: Settings,
    work_dir: str,
    url: Optional[str] = None,
) -> tuple[optuna.Study, optuna.storages.RDBStorage]:
    """Open a study, or begin it; by default in a file in the work directory.

    Raises:
        UserError: The storage cannot be used, the work directory belongs to
            another study, or the study has rewards by another config.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if not url:
        file = osp.join(osp.abspath(work_dir), 'study.db')
        url = URL.create('sqlite', database=file).render_as_string()
    with alone(work_dir):
        study, storage = _open(name, settings, work_dir, url)
        _check_identity(study, cfg, settings)
        _claim(study, work_dir)
    return study, storage


def _open(name, settings, work_dir, url):
    for attempt in range(ATTEMPTS):
        try:
            storage = _storage(url, settings.heartbeat)
            _check_folder(name, storage, work_dir)
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction='maximize',
                pruner=_pruner(settings),
                load_if_exists=True,
            )
            return study, storage
        except (
            SQLAlchemyError,
            ImportError,
            RuntimeError,
            optuna.exceptions.OptunaError,
        ) as error:
            if attempt < ATTEMPTS - 1 and not isinstance(error, ImportError):
                time.sleep(1)
                continue
            with suppress(SQLAlchemyError):
                url = make_url(url).render_as_string()  # without a password
            raise UserError(
                f'the storage {url} cannot be used '
                f'({one_line(error.__cause__ or error)}): check that it can '
                'be reached from here, or give another --storage'
            ) from error


def _check_folder(name, storage, work_dir):
    """See that a folder belongs to no other study, before one begins."""
    studies = {
        study.study_name: study
        for study in optuna.get_all_study_summaries(
            storage, include_best_trial=False
        )
    }
    study, found = studies.get(name), _owner(work_dir)
    if found is not None:
        is_other = not study or study.user_attrs.get(ID) != found
    else:  # What an earlier version began has no id.
        has_trials = osp.exists(osp.join(work_dir, TRIALS_FOLDER))
        is_other = has_trials and not (study and study.n_trials)
    if is_other:
        raise UserError(
            f'{work_dir} has the trials of another study than {name} of this '
            'storage: give another --work-dir, or the --storage and the file '
            'name of the config that those were begun with'
        )


def _owner(work_dir):
    """The id of the study that a folder belongs to; None if to none."""
    file = osp.join(work_dir, ID_FILE)
    if not osp.exists(file):
        return None
    with open_text(file, errors='replace') as f:
        return f.read().strip()


def _claim(study, work_dir):
    """Make a folder that of a study."""
    if ID not in study.user_attrs:
        study.set_user_attr(ID, uuid.uuid4().hex)
    if _owner(work_dir) is None:
        file = osp.join(work_dir, ID_FILE)
        write_atomically(file, study.user_attrs[ID] + '\n')


def _storage(url, heartbeat):
    options = dict(pool_pre_ping=True)  # A connection may have been lost.
    if url.startswith('sqlite'):
        options = dict(connect_args=dict(timeout=SQLITE_TIMEOUT))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
        return optuna.storages.RDBStorage(
            url,
            engine_kwargs=options,
            heartbeat_interval=heartbeat[0],
            grace_period=heartbeat[1],
        )


def _check_identity(study, cfg, settings):
    """Keep what rewards depend on, or see that it is what it was."""
    space = dict(vars(settings.space), type=type(settings.space).__name__)
    own = {key: getattr(settings, key) for key in OF_SEARCH}
    cfg = named(cfg.to_dict())
    own |= dict({key: cfg.get(key) for key in OF_CONFIG}, space=space)
    own = {key: to_json(value) for key, value in own.items()}
    known = study.user_attrs
    if not any(trial.intermediate_values for trial in study.trials):
        known = {}  # As long as there is no reward, all may change.
    changes = [
        change
        for key in own.keys() & known.keys()
        for change in _changes(
            key, json.loads(known[key]), json.loads(own[key])
        )
    ]
    if changes:
        names, found, given = zip(*sorted(changes))
        raise UserError(
            f'the study {study.study_name} has rewards by another '
            f'{" and another ".join(names)} than that of the config (the '
            f'first was {short(found[0])} and is {short(given[0])}): give '
            'another --work-dir, and with --storage another file name to the '
            'config'
        )
    # What an earlier version began has few of them.
    for key in own.keys() - known.keys():
        study.set_user_attr(key, own[key])


def _changes(name, found, given):
    """Name and both values of all that differs, in lists of dicts, too."""
    pair = [
        dict(enumerate(value))
        if isinstance(value, list) and value and isinstance(value[0], dict)
        else value
        for value in (found, given)
    ]
    if all(isinstance(value, dict) for value in pair):
        for key in {**pair[0], **pair[1]}:
            if key not in OF_MACHINE:
                inner = (value.get(key) for value in pair)
                yield from _changes(f'{name}.{key}', *inner)
    elif found != given:
        yield name, found, given


def _pruner(settings):
    from . import pruner  # noqa: F401  Registers what needs the study.

    if resolve(TASK_UTILS, settings.pruner.get('type')):
        with _sentence('pruner'):
            return TASK_UTILS.build({'seed': settings.seed, **settings.pruner})
    return _of_optuna('Pruner', settings.pruner)


def sampler(cfg: dict) -> Any:
    """Build a sampler of ours; of Optuna's, a function of numbers, its seed.

    One of Optuna's is made for each trial: so its state is what is stored.
    """
    if resolve(TASK_UTILS, cfg.get('type')):
        with _sentence('sampler'):
            return TASK_UTILS.build(cfg)
    _of_optuna('Sampler', cfg, seed=0)

    def seeded(*numbers: int) -> optuna.samplers.BaseSampler:
        state = np.random.SeedSequence(numbers).generate_state(1)
        return _of_optuna('Sampler', cfg, seed=int(state[0]))

    return seeded


def _of_optuna(kind, cfg, **given):
    """Build a sampler or a pruner, which may take what is given."""
    arguments = dict(cfg)
    name = arguments.pop('type', None)
    module = getattr(optuna, f'{kind.lower()}s')
    known = {n for n in dir(module) if n.endswith(kind)} - {f'Base{kind}'}
    if name not in known:
        ours = SAMPLERS if given else {'MovingAveragePruner'}
        raise UserError(
            f'search.{kind.lower()} is {name}, but must be one of '
            f'{", ".join(sorted(ours | known))}'
        )
    takes = inspect.signature(getattr(module, name)).parameters
    given = {key: given[key] for key in given.keys() & takes.keys()}
    with _sentence(kind.lower()), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Some are called experimental.
        return getattr(module, name)(**{**given, **arguments})


@contextmanager
def _sentence(kind):
    try:
        yield
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(
            f'search.{kind} cannot be built ({one_line(error)})'
        ) from error


@contextmanager
def beating(study: optuna.Study, trial: int, storage: Any) -> Iterator[None]:
    """Give signs of life of a trial."""
    identity = storage.get_trial_id_from_study_id_trial_number(
        storage.get_study_id_from_name(study.study_name), trial
    )
    ended = threading.Event()

    def beat():
        # What fails may work the next time.
        while True:
            with suppress(optuna.exceptions.StorageInternalError):
                storage.record_heartbeat(identity)
            if ended.wait(storage.get_heartbeat_interval()):
                return

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
