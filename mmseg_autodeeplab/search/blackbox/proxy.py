"""The proxy of a trial: a training in a process of its own."""

import glob
import math
import os.path as osp
from collections.abc import Callable, Mapping, Sequence

from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from mmengine.runner import find_latest_checkpoint
from mmengine.visualization import LocalVisBackend

from ...arch import Architecture
from ...compat.registry import is_a, named
from ...errors import Occupied, Unavailable, UserError
from ...files import write_atomically
from ..config_text import write_config
from ..history import read_json_lines
from ..processes import ProcessFailed, run, tool
from ..retrain_config import place_architecture

OF_STAGE = ('top', 'cache_features', 'warm_start')  # and no part of a config
#: The training of a config, before its file and its options.
TRAIN = tool('train')


class TrialFailed(Exception):
    """A trial has no reward; the sentence says why.

    Attributes:
        patience (int): How many in a row end the search.
        sentence (str): With which it ends.
    """

    patience = 10
    sentence = '{} trials in a row failed, the last with: {}'


def stage_config(
    cfg: Config,
    architecture: Architecture,
    stage: Mapping,
    seed: int,
    work_dir: str,
) -> Config:
    """Make the config that a stage of a trial trains, from scratch."""
    cfg = Config(named(cfg.to_dict()))
    for key in ('search', 'retrain'):
        cfg.pop(key, None)
    cfg.merge_from_dict({k: v for k, v in stage.items() if k not in OF_STAGE})
    place_architecture(cfg.model, architecture)
    cfg.randomness = {'seed': seed, **(cfg.get('randomness') or {})}
    if options := stage.get('cache_features'):
        from .cached_features import cached_config

        options = options if isinstance(options, Mapping) else {}
        folder = osp.join(work_dir, 'cached_features')
        cfg = cached_config(cfg, folder, **options)
    return cfg


def train(
    cfg: Config,
    folder: str,
    report: Callable[[int, dict], None] = lambda step, values: None,
    held: Sequence[int] = (),
    command: Sequence[str] = TRAIN,
) -> dict:
    """Train a config, or go on with it, in a folder.

    Args:
        report (Callable): Called with the iteration and the values of every
            validation; what it raises ends the training.
        held (Sequence[int]): Descriptors that the process is to hold, too.

    Returns:
        dict: The values of the last validation.

    Raises:
        TrialFailed: The training failed, its loss was no number, or nothing
            was validated.
        Unavailable: The folder or the disk refused it, as it would any other.
        Occupied: Another training is at work in the folder.
    """
    config = osp.join(folder, 'config.py')
    cfg = Config(cfg.to_dict())
    # Where the values of validations are read.
    visualizer = cfg.get('visualizer') or dict(type='SegLocalVisualizer')
    backends = list(visualizer.get('vis_backends') or [])
    if not any(is_a(VISBACKENDS, b, LocalVisBackend) for b in backends):
        backends.append(dict(type='LocalVisBackend'))
    cfg.visualizer = dict(visualizer, vis_backends=backends)
    # A config may come from a study, as data; its text must not be more.
    write_atomically(config, write_config(cfg, '# Of a trial.'))
    reported: dict[int, dict] = {}

    def watch():
        for step, values in sorted(_validations(folder).items()):
            if step not in reported:
                reported[step] = values
                report(step, values)

    options = [config, '--work-dir', folder, '--resume']
    try:
        run([*command, *options], folder, watch, held)
    except ProcessFailed as error:
        for kind in (Unavailable, Occupied):
            if error.status == kind.status:
                raise kind(str(error)) from None
        raise TrialFailed(str(error)) from None
    if not reported:
        raise TrialFailed('the training ended without a validation')
    return reported[max(reported)]


def last_checkpoint(folder: str) -> str:
    """The last one that a training left."""
    file = find_latest_checkpoint(folder)
    if file is None:
        raise TrialFailed(
            'warm_start needs a checkpoint of the stage before, which has '
            'written none'
        )
    return file


def reward(values: Mapping, names: Sequence[str]) -> float:
    """The geometric mean of values of a validation.

    Raises:
        UserError: There is no such value.
        TrialFailed: One is negative or no number.
    """
    for name in names:
        if name not in values:
            raise UserError(
                f'search.reward is {name}, but a validation gives '
                f'{", ".join(values)}: choose among these'
            )
        value = values[name]
        if value is None or not 0 <= value < math.inf:
            raise TrialFailed(f'{name} is {value}, which is no reward')
    return math.prod(values[name] for name in names) ** (1 / len(names))


def _validations(folder):
    """Values by iteration, of all runs that a training took."""
    found = {}
    pattern = osp.join(glob.escape(folder), '*/vis_data/scalars.json')
    for file in sorted(glob.glob(pattern)):
        for line in read_json_lines(file):
            loss = line.get('loss', 0)
            if loss is None or not math.isfinite(loss):
                raise TrialFailed(
                    f'the loss is {loss} at iteration {line.get("iter")}'
                )
            # Of a training they have the loss, of a validation the step.
            if 'loss' not in line and 'step' in line:
                step = line.pop('step')
                line.pop('time', None), line.pop('data_time', None)
                found[step] = line
    return found
