"""A space: what may be drawn, by whoever chooses."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Optional, Union

import numpy as np

from .architecture import Architecture

#: Takes the name of a choice, its options and, where they are not equally
#: likely, their weights; gives one of the options.
Choose = Callable[..., Any]
Seed = Union[int, Sequence[int]]


class Space:
    """The base of all spaces.

    A space has ``draw``, which asks for one choice after another, so that a
    later one may depend on earlier ones, and its inverse, ``choices``.
    """

    architecture: ClassVar[type[Architecture]]

    def draw(self, choose: Choose) -> Architecture:
        """Build the architecture that ``choose`` chooses."""
        raise NotImplementedError

    def choices(self, architecture: Architecture) -> dict[str, Any]:
        """What :meth:`draw` has to choose for an architecture.

        The same for architectures that differ in spelling alone.
        """
        raise NotImplementedError

    def count(self) -> int:
        """Number of architectures."""
        raise NotImplementedError

    def random(self, seed: Seed) -> Architecture:
        """Draw an architecture, each as likely as another."""
        drawn = self.draw(uniform(_generator(seed)))
        return drawn.with_provenance(random_seed=seed)

    def mutate(self, architecture: Architecture, seed: Seed) -> Architecture:
        """Draw one that differs in one choice, and in what that rules out."""
        rng = _generator(seed)
        known = self.choices(architecture)
        open_ones = []

        def repeat(name, options, weights=None):
            if len(options) > 1:
                open_ones.append(name)
            return known[name]

        def change(name, options, weights=None):
            if name != changed and known[name] in options:
                return known[name]
            if weights is None:
                weights = np.ones(len(options))
            if name == changed:
                others = [option != known[name] for option in options]
                weights = np.multiply(weights, others)
            return draw_any(name, options, weights)

        self.draw(repeat)
        draw_any = uniform(rng)
        changed = open_ones[rng.randint(len(open_ones))]
        return self.draw(change).with_provenance(mutation_of=changed)


def uniform(rng: np.random.RandomState) -> Choose:
    """Choose at random, as likely as the weights say."""

    def choose(
        name: str, options: Sequence, weights: Optional[Sequence] = None
    ) -> Any:
        if weights is None:
            return options[rng.randint(len(options))]
        weights = np.asarray(weights, float)
        return options[rng.choice(len(options), p=weights / weights.sum())]

    return choose


def _generator(seed):
    # Its stream is frozen across numpy versions.
    return np.random.RandomState(seed)
