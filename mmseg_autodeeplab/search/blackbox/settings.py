"""The key ``search`` of a config, checked."""

from dataclasses import dataclass, field
from typing import Any, Union

from mmengine.config import Config
from mmseg.registry import TASK_UTILS

from ...arch import Space
from ...compat.registry import is_a
from ...errors import UserError, one_line
from .bounds import QUANTITIES


@dataclass
class Settings:
    """How it is searched; in a config, ``space`` is that of an object."""

    #: What may be drawn.
    space: Space
    #: A sampler of :mod:`.samplers`, or any of Optuna by its name.
    sampler: dict = field(default_factory=lambda: dict(type='UniformSampler'))
    #: One of Optuna by its name, asked at each validation of the first stage;
    #: or a :class:`.pruner.MovingAveragePruner`, asked at those of all.
    pruner: dict = field(default_factory=lambda: dict(type='NopPruner'))
    #: Trials to finish.
    trials: int = 100
    #: Validation values, of which the geometric mean is to be large.
    reward: Union[str, list[str]] = 'mIoU'
    #: The most ``parameters`` or ``multiply_adds`` of what is trained.
    limit: dict = field(default_factory=dict)
    #: Targets of these, beyond which a reward is multiplied by
    #: (target / size) ** ``exponent``.
    penalty: dict = field(default_factory=dict)
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
        tops = [stage.get('top', 1) for stage in self.stages]
        right = dict(
            trials=self.trials > 0,
            reward={*map(type, self.reward)} == {str},
            limit=_are_sizes(self.limit, QUANTITIES),
            penalty=_are_sizes(self.penalty, (*QUANTITIES, 'exponent')),
            stages=tops and all(0 < top <= 1 for top in tops),
            seed=self.seed >= 0,
            heartbeat=0 < self.heartbeat[0] < self.heartbeat[1],
        )
        for name, is_right in right.items():
            if not is_right:
                raise UserError(f'{name} is {getattr(self, name)!r}')
        if self.trials > self.space.count():
            raise UserError(
                f'trials is {self.trials}, but the space has '
                f'{self.space.count()} architectures'
            )


def _are_sizes(found, known):
    return {*found} <= {*known} and all(value > 0 for value in found.values())


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
        known = TASK_UTILS.module_dict
        known = [k for k in known if is_a(TASK_UTILS, dict(type=k), Space)]
        raise UserError(
            f'search.space of {cfg.filename} is {given.get("space")}, but its '
            f'type must be one of {", ".join(known)}'
        )
    try:
        return Settings(**dict(given, space=TASK_UTILS.build(given['space'])))
    except (TypeError, ValueError, LookupError) as error:
        raise UserError(
            f'search of {cfg.filename} cannot be read ({one_line(error)}): '
            'docs/user_guides/black_box_search.md lists what it may have'
        ) from error
