"""What the trials of a study say.

A trial that goes on with the work of a dead worker has its index, and all of
its attributes.
"""

import json
from collections.abc import Iterable, Sequence

from ...arch import Architecture
from .study import optuna

WAITING, RUNNING, COMPLETE, PRUNED, FAIL = (
    getattr(optuna.trial.TrialState, name)
    for name in ('WAITING', 'RUNNING', 'COMPLETE', 'PRUNED', 'FAIL')
)

# Attributes: INDEX and WORKER are there from its creation on.
INDEX, WORKER = 'index', 'worker'
ARCHITECTURE, REWARDS, FAILURE = 'architecture', 'rewards', 'failure'
TWIN = 'twin'  # the trial that had its architecture before

Trial = optuna.trial.FrozenTrial


def index_of(trial: Trial) -> int:
    """Its number; all attempts at a trial have the same."""
    return trial.user_attrs[INDEX]


def indices(trials: Iterable[Trial]) -> set[int]:
    """Those of several trials."""
    return {index_of(trial) for trial in trials}


def architecture_of(trial: Trial) -> Architecture:
    """What was proposed for it."""
    return Architecture.from_dict(json.loads(trial.user_attrs[ARCHITECTURE]))


def counts(trial: Trial) -> bool:
    """Whether it is finished or may become so."""
    return trial.state in (WAITING, RUNNING, COMPLETE, PRUNED)


def is_settled(trial: Trial) -> bool:
    """Whether it is finished, or failed and not just its worker died."""
    return trial.state in (COMPLETE, PRUNED) or FAILURE in trial.user_attrs


def ended(trials: Sequence[Trial]) -> list[tuple[Architecture, float]]:
    """Architectures and rewards of trials 0, 1, 2 ..., as far as they ended.

    So they are the same for whoever looks later. What failed has reward 0, a
    pruned trial its last value, and one that was drawn before that of its
    twin.
    """
    settled = {index_of(t): t for t in trials if is_settled(t)}
    found: list[tuple[Architecture, float]] = []
    while trial := settled.get(len(found)):
        trained = trial
        while trained and (twin := trained.user_attrs.get(TWIN)) is not None:
            trained = settled.get(twin)
        if trained is None:  # Its twin is not trained yet.
            break
        reward = 0.0
        if FAILURE not in trained.user_attrs:
            reward = trained.value or 0.0
        found.append((architecture_of(trial), reward))
    return found
