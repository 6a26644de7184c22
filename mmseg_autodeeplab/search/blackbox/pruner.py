"""The early stop of hopeless trials (Nekrasov et al., WACV 2020)."""

import numpy as np
from mmseg.registry import TASK_UTILS

from .study import optuna
from .trials import index_of

DECAY = 0.99  # of the moving average
# The largest chance of mercy, and what it is multiplied by at these counts.
MERCY, MILESTONES = 0.9, {100: 0.9, 200: 0.8, 300: 0.7, 400: 0.6}


@TASK_UTILS.register_module()
class MovingAveragePruner(optuna.pruners.BasePruner):
    """Stop a trial that is below the moving average of those before it.

    There is one average for each validation of each stage. A trial below it
    goes on by chance: where its value is above the average times 1 - u, with u
    drawn from U(0, d). The more trials were above it, the smaller is d.

    Args:
        begin (float): The average before the first trial, in percent.
    """

    every_stage = True

    def __init__(self, begin: float = 1.0, seed: int = 0) -> None:
        self.begin = begin
        self.seed = seed

    def prune(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> bool:
        """Whether to stop a trial, whose value is then the last reported."""
        step, own = trial.last_step, index_of(trial)
        values = {}
        for other in study.get_trials(deepcopy=False):
            if step in other.intermediate_values and index_of(other) < own:
                value = other.intermediate_values[step]
                values.setdefault(index_of(other), value)
        values = [values[index] for index in sorted(values)]
        average, mercy, count = self.begin, MERCY, 0
        for value in [*values, trial.intermediate_values[step]]:
            if count in MILESTONES:
                mercy *= MILESTONES[count]
                count += 1
            average = DECAY * average + (1 - DECAY) * value
            is_above = value > average
            count += is_above
        rng = np.random.RandomState([self.seed, 3, own, step])
        return not (is_above or value > average * (1 - rng.uniform(0, mercy)))
