"""The key ``search`` of a config, checked."""

import numbers
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from mmengine.config import Config
from mmseg.registry import TASK_UTILS

from ...arch import Space
from ...compat.registry import is_a
from ...errors import UserError, one_line


@dataclass
class Settings:
    """How it is searched; in a config, ``space`` is that of an object."""

    #: What may be drawn.
    space: Space
    #: A sampler of :mod:`.samplers`, or any of Optuna by its name.
    sampler: dict = field(default_factory=lambda: dict(type='UniformSampler'))
    #: One of Optuna by its name; asked at each validation of the first stage.
    pruner: Optional[dict] = None
    #: Trials to finish.
    trials: int = 100
    #: Validation values, of which the geometric mean is to be large.
    reward: Union[str, list[str]] = 'mIoU'
    #: Overrides of the config per stage; a stage with ``top`` is for trials
    #: whose reward so far is among this best share.
    stages: list[dict] = field(default_factory=lambda: [{}])
    seed: int = 0
    #: Seconds between signs of life of a trial, and without one until another
    #: machine takes it over.
    heartbeat: tuple[int, int] = (60, 600)

    def __post_init__(self) -> None:
        if isinstance(self.reward, str):
            self.reward = [self.reward]
        wrong = dict(
            trials=not _is_count(self.trials),
            reward=not self.reward or {*map(type, self.reward)} != {str},
            stages=not self.stages or not all(map(_is_stage, self.stages)),
            seed=not _is_count(self.seed + 1),
            heartbeat=len(self.heartbeat) != 2
            or not all(map(_is_count, self.heartbeat)),
        )
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise UserError(f'{name} is {getattr(self, name)!r}')
        if self.trials > self.space.count():
            raise UserError(
                f'trials is {self.trials}, but the space has '
                f'{self.space.count()} architectures'
            )


def _is_count(value):
    return type(value) is int and value > 0


def _is_stage(stage):
    top = stage.get('top', 1)
    return isinstance(top, numbers.Real) and 0 < top <= 1


def read_settings(cfg: Config, **overrides: Any) -> Settings:
    """Read ``search`` of a config.

    Raises:
        UserError: There is none, or what stands there cannot be.
    """
    if not isinstance(cfg.get('search'), dict):
        raise UserError(
            f'the config {cfg.filename} has no search=dict(space=...), which '
            'makes a black-box search of it'
        )
    given = {**cfg.search.to_dict(), **overrides}
    if not is_a(TASK_UTILS, given.get('space'), Space):
        known = TASK_UTILS.module_dict.items()
        spaces = [name for name, cls in known if _is_space(cls)]
        raise UserError(
            f'search.space of {cfg.filename} is {given.get("space")}, but its '
            f'type must be one of {", ".join(spaces)}'
        )
    try:
        return Settings(**dict(given, space=TASK_UTILS.build(given['space'])))
    except (TypeError, ValueError) as error:
        raise UserError(
            f'search of {cfg.filename} cannot be read ({one_line(error)}): '
            'docs/user_guides/black_box_search.md lists what it may have'
        ) from error


def _is_space(cls):
    return isinstance(cls, type) and issubclass(cls, Space)
