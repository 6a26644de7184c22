"""The early stop of hopeless trials."""

import numpy as np
import optuna
import pytest
from small_study import search_config, worker

from mmseg_autodeeplab.search.blackbox import read_results
from mmseg_autodeeplab.search.blackbox.pruner import MovingAveragePruner
from mmseg_autodeeplab.search.blackbox.trials import ended


def performer(values, steps, mercy=0.9, average=1.0, count=0):
    """The rules of the authors' code, as the paper's facts state them."""
    for i, value in enumerate(values):
        if count in (100, 200, 300, 400):
            mercy *= {100: 0.9, 200: 0.8, 300: 0.7, 400: 0.6}[count]
            count += 1
        average = 0.99 * average + 0.01 * value
        if value > average:
            count += 1
            yield False
        else:
            u = np.random.RandomState([5, 3, i, steps]).uniform(0, mercy)
            yield not value > average * (1 - u)


def study_of(values, step):
    """Trials that reported one value each."""
    study = optuna.create_study(direction='maximize')
    for index, value in enumerate(values):
        study.add_trial(
            optuna.create_trial(
                value=value,
                intermediate_values={step: value},
                user_attrs=dict(index=index),
            )
        )
    return study


@pytest.mark.parametrize('level', [20, 80])
def test_it_follows_the_rules(level):
    rng = np.random.RandomState(0)
    values = list(rng.uniform(0, level, 520)) + [level / 100]
    study = study_of(values, 7)
    pruner = MovingAveragePruner(seed=5)
    expected = list(performer(values, 7))
    some = [*range(0, 30), *range(100, 521, 28), *range(501, 521)]
    for index in some:
        trial = study.trials[index]
        assert pruner.prune(study, trial) == expected[index]
    assert {expected[index] for index in some} == {False, True}


def test_only_values_of_the_same_step_and_of_trials_before_count():
    study = study_of([50, 60, 0.9, 70], 7)
    for index, step in ((0, 3), (9, 7)):
        study.add_trial(
            optuna.create_trial(
                value=1,
                intermediate_values={step: 99.0},
                user_attrs=dict(index=index),
            )
        )
    pruner = MovingAveragePruner(seed=5)
    expected = list(performer([50, 60, 0.9, 70], 7))
    found = [pruner.prune(study, trial) for trial in study.trials[:4]]
    assert found == expected


def test_a_search_with_it(tmp_path):
    """Each stage is asked, and the value is the last one that was reported."""
    asked = []

    def staged(cfg, folder, report, held):
        index, stage = int(folder[-12:-8]), int(folder[-1])
        hopeless = (index, stage) in ((1, 0), (3, 1))
        for step in (1, 2):
            asked.append((index, stage, step))
            value = dict(mIoU=0.0001 if hopeless and step == 2 else 40.0)
            report(step, value)
        return value

    cfg = search_config(
        pruner=dict(type='MovingAveragePruner', begin=20.0),
        stages=[dict(), dict(top=1.0)],
        trials=5,
    )
    one = worker(tmp_path, cfg, staged)
    one.run()
    states = {r.index: r.state for r in read_results(tmp_path)}
    pruned = {index for index, state in states.items() if state == 'pruned'}
    assert pruned == {1, 3}
    rewards = [reward for _, reward in ended(one.study.trials)]
    assert rewards == [40, 0.0001, 40, 0.0001, 40]
    assert (1, 1, 1) not in asked and (3, 1, 2) in asked
