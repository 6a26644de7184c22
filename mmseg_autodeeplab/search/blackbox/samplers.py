"""Who proposes architectures: a function of seeds and of what is stored."""

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from mmseg.registry import TASK_UTILS

from ...arch import Architecture, Space
from ...errors import UserError

MAX_MUTATIONS = 100  # that were tried before, in a row


@TASK_UTILS.register_module()
class UniformSampler:
    """Draw each as likely as another, and none twice.

    What trial ``index`` draws depends on the seed and the index alone.
    """

    def __init__(self) -> None:
        # What earlier trials draw, which may not be stored yet.
        self._drawn: dict = {}

    def propose(
        self,
        space: Space,
        seed: int,
        index: int,
        taken: set,
        best: Sequence[Architecture],
    ) -> Architecture:
        """Propose the architecture of a trial.

        Args:
            index (int): Number of the trial.
            taken (set): The :func:`key` of all that other trials have.
            best (Sequence[Architecture]): Of finished trials, from the best.
        """
        drawn = self._drawn
        while len(drawn) < index:
            numbers = seed, len(drawn)
            one = first_new(space, _uniform(space, *numbers), drawn)
            drawn[key(space, one)] = None
        earlier = taken.union(itertools.islice(drawn, index))
        return first_new(space, _uniform(space, seed, index), earlier)


@TASK_UTILS.register_module()
class NearBestSampler:
    """With probability ``p``, mutate one of the best ``k``, or else draw any.

    As Vizier's random search did for the dense prediction cell.
    """

    def __init__(self, p: float = 0.5, k: int = 10) -> None:
        self.p = p
        self.k = k

    def propose(
        self,
        space: Space,
        seed: int,
        index: int,
        taken: set,
        best: Sequence[Architecture],
    ) -> Architecture:
        """Propose the architecture of a trial, like a UniformSampler."""
        best = best[: self.k]

        def draw(attempt):
            numbers = [seed, index, attempt]
            rng = np.random.RandomState(numbers)
            if best and attempt < MAX_MUTATIONS and rng.rand() < self.p:
                return space.mutate(best[rng.randint(len(best))], numbers)
            return space.random(numbers)

        return first_new(space, draw, taken)


def key(space: Space, architecture: Architecture) -> tuple:
    """The same for architectures that differ in spelling alone."""
    return tuple(space.choices(architecture).items())


def first_new(
    space: Space, draw: Callable[[int], Architecture], taken: Collection
) -> Architecture:
    """Draw, with 0, 1, 2 ... attempts before, until it is not taken.

    Raises:
        UserError: All are taken.
    """
    if len(taken) >= space.count():
        raise UserError(
            f'all {space.count()} architectures of the space were drawn, some '
            'of which failed: lower search.trials, or search a larger space'
        )
    attempts = map(draw, itertools.count())
    return next(a for a in attempts if key(space, a) not in taken)


def _uniform(space, *numbers):
    return lambda attempt: space.random([*numbers, attempt])


def suggest(space: Space, suggest_categorical: Callable) -> Architecture:
    """Let a sampler of Optuna choose: each time the index of an option."""

    def choose(name: str, options: Sequence, weights: Any = None) -> Any:
        # What may follow varies, and a parameter of Optuna must not.
        name = f'{name}_of_{len(options)}'
        return options[suggest_categorical(name, range(len(options)))]

    return space.draw(choose)
