"""Who proposes by a controller, which learns from the stored trials."""

import hashlib
import io
import os
import os.path as osp
import pickle
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from mmseg.registry import TASK_UTILS

from ...arch import Architecture, Space
from ...errors import UserError, one_line
from ...files import to_json, write_atomically
from .controller import Controller, Told

KEPT = 2  # files of weights: a worker may read what another one replaces
# In the provenance of an architecture.
CHOICES, LOG_PROB, LEARNT = 'choices', 'log_prob', 'learnt'


class Decision(NamedTuple):
    """One choice of a space."""

    name: str
    options: tuple

    @property
    def head(self) -> tuple:
        """The same for decisions of one kind, which share a head."""
        return re.sub(r'\d+', '', self.name), self.options


@TASK_UTILS.register_module()
class ControllerSampler:
    """Let a controller draw, which learns by PPO from the trials that ended.

    Its weights are a function of the seed and of the draws and rewards of
    trials 0 .. n, where n + 1 is the first one that has not ended: whoever has
    the study can compute them. They are written after each, since that takes
    time, and computed again where they are lost.

    Args:
        feed_choices (bool): Let a decision know those before it.
        **options: ``lr``, ``buffer``, ``decay``, ``clip``, ``max_norm`` and
            ``hidden`` of the :class:`.controller.Controller`.
    """

    def __init__(self, feed_choices: bool = False, **options: Any) -> None:
        self.options = dict(options, feed_choices=feed_choices)
        Controller(0, sizes=[1], heads=[0], **self.options)  # It can be built.
        self._controller = None
        self._learnt = 0  # trials
        self._name = ''  # of its file

    def learn(
        self,
        space: Space,
        seed: int,
        ended: Sequence[tuple[Architecture, float]],
        folder: str,
    ) -> None:
        """Learn from all that have ended, and write the weights.

        Args:
            ended (Sequence[tuple[Architecture, float]]): Trials in the order
                of their numbers, with rewards in percent, as far as all have
                ended. Those of other samplers teach nothing.
            folder (str): Where files of weights are.

        Raises:
            UserError: A file of weights cannot be read, or other
                architectures of the space have other decisions.
        """
        decisions = decisions_of(space)
        told = {
            number: Told(drawn[CHOICES], drawn[LOG_PROB], reward / 100)
            for number, (drawn, reward) in enumerate(
                (architecture.provenance, r) for architecture, r in ended
            )
            if LOG_PROB in drawn
        }
        names = _names([self.options, seed, decisions], told)
        if self._name != names[min(self._learnt, len(told))]:
            heads = list(dict.fromkeys(d.head for d in decisions))
            self._controller = Controller(
                seed,
                sizes=[len(options) for _, options in heads],
                heads=[heads.index(decision.head) for decision in decisions],
                **self.options,
            )
            self._learnt = 0
        for count in range(len(told), self._learnt, -1):
            if self._load(osp.join(folder, names[count])):
                self._learnt = count
                break
        while self._learnt < len(told):
            self._learnt += 1
            self._controller.learn([*told.values()][: self._learnt])
            content = io.BytesIO()
            torch.save(self.state_dict(), content)
            file = osp.join(folder, names[self._learnt])
            write_atomically(file, content.getvalue())
            if self._learnt > KEPT:
                with suppress(FileNotFoundError):
                    os.unlink(osp.join(folder, names[self._learnt - KEPT]))
        self._name = names[self._learnt]

    def propose(
        self,
        space: Space,
        seed: int,
        index: int,
        taken: set,
        best: Sequence[Architecture],
    ) -> Architecture:
        """Propose the architecture of a trial, which may be taken."""
        rng = np.random.RandomState([seed, 2, index])
        choices, log_prob = self._controller.draw(rng)
        left = zip(decisions_of(space), choices, strict=True)

        def choose(name, options, weights=None):
            decision, index = next(left)
            _check(decision == (name, tuple(options)))
            return options[index]

        return space.draw(choose).with_provenance(
            **{CHOICES: choices, LOG_PROB: log_prob, LEARNT: self._learnt}
        )

    def state_dict(self) -> dict:
        """That of the controller."""
        return self._controller.state_dict()

    def _load(self, file):
        if not osp.exists(file):
            return False
        try:
            self._controller.load_state_dict(
                torch.load(file, weights_only=True)
            )
        except FileNotFoundError:  # By now.
            return False
        except (
            OSError,
            RuntimeError,
            ValueError,
            LookupError,
            TypeError,
            EOFError,
            pickle.UnpicklingError,
        ) as error:
            raise UserError(
                f'{file} cannot be read as the weights of a controller '
                f'({one_line(error)}): remove it, they are computed again'
            ) from error
        return True


def decisions_of(space: Space) -> list[Decision]:
    """All choices of a space, in their order.

    Raises:
        UserError: One of them depends on others.
    """
    found = []
    for position in (0, -1):
        found.append([])

        def choose(name, options, weights=None, position=position):
            found[-1].append(Decision(name, tuple(options)))
            return options[position]

        space.draw(choose)
    _check(found[0] == found[1])
    return found[0]


def _check(is_fixed):
    if not is_fixed:
        raise UserError(
            'a ControllerSampler needs a space in which every architecture '
            'has the same choices, but here one depends on another: choose '
            'another search.sampler'
        )


def _names(settings, told):
    """Names of files: the last trial, and a hash of all that was told."""
    digest = hashlib.sha256(to_json(settings).encode())
    found = [digest.hexdigest()]
    for number, one in told.items():
        digest.update(to_json(one).encode())
        found.append(f'{number:06d}_{digest.hexdigest()[:12]}.pt')
    return found
