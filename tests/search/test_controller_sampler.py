"""A controller's weights are a function of the trials that are stored."""

import json
import os

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
from small_study import SPACE, search_config, train, worker

from mmseg_autodeeplab.arch import AutoDeepLabSpace, DPCSpace
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search.blackbox import ControllerSampler, read_results
from mmseg_autodeeplab.search.blackbox.controller import Controller
from mmseg_autodeeplab.search.blackbox.proxy import TrialFailed
from mmseg_autodeeplab.search.blackbox.trials import ended

SMALL = dict(hidden=6, buffer=3, lr=0.01)
SAMPLER = dict(type='ControllerSampler', **SMALL)
TWO = DPCSpace(2)


class Killed(BaseException):
    """As if by kill -9: nothing is told."""


def bits(sampler):
    """All that is learned, as bytes."""

    def flat(value):
        if isinstance(value, dict):
            return {str(key): flat(item) for key, item in value.items()}
        if isinstance(value, torch.Tensor):
            return value.numpy().tobytes()
        return value

    return flat(sampler.state_dict())


def learned(trials, folder, space=TWO, seed=0, **options):
    """A fresh sampler that has learned from trials."""
    sampler = ControllerSampler(**{**SMALL, **options})
    sampler.learn(space, seed, trials, str(folder))
    return sampler


@pytest.fixture(scope='module')
def trials(tmp_path_factory):
    """Draws of a controller, with rewards."""
    sampler, found = ControllerSampler(**SMALL), []
    folder = str(tmp_path_factory.mktemp('weights'))
    for index in range(6):
        sampler.learn(TWO, 0, found, folder)
        drawn = sampler.propose(TWO, 0, index, set(), [])
        assert drawn.provenance['learnt'] == index
        found.append((drawn, 10.0 * index))
    return found


@pytest.mark.parametrize('seen', [range(7), [0, 6], [3, 4, 6], [2, 2, 6]])
def test_it_does_not_matter_who_learns_when(tmp_path, trials, seen):
    """Nor whether the same process goes on, or another one, from a file."""
    at_once = bits(learned(trials, tmp_path / 'at_once'))
    same = ControllerSampler(**SMALL)
    for count in seen:
        same.learn(TWO, 0, trials[:count], str(tmp_path / 'same'))
        last = learned(trials[:count], tmp_path / 'others')
    assert bits(same) == bits(last) == at_once
    assert at_once != bits(learned(trials[:5], tmp_path / 'same'))
    # Who sees less than another one has learned, knows less.
    same.learn(TWO, 0, trials[:5], str(tmp_path / 'same'))
    assert bits(same) == bits(learned(trials[:5], tmp_path / 'anew'))


def test_files_of_weights(tmp_path, trials):
    """The last two stay; they are read, and made again where they are lost."""
    expected = bits(learned(trials, tmp_path))
    files = sorted(os.listdir(tmp_path))
    assert [file[:6] for file in files] == ['000004', '000005']
    times = [os.stat(tmp_path / file).st_mtime_ns for file in files]
    assert bits(learned(trials, tmp_path)) == expected
    assert times == [os.stat(tmp_path / f).st_mtime_ns for f in files]
    os.unlink(tmp_path / files[1])
    assert bits(learned(trials, tmp_path)) == expected
    for file in files:
        os.unlink(tmp_path / file)
    assert bits(learned(trials, tmp_path)) == expected
    assert sorted(os.listdir(tmp_path)) == files


@pytest.mark.parametrize(
    'change',
    [dict(seed=1), dict(lr=0.02), dict(feed_choices=True)],
    ids=lambda change: next(iter(change)),
)
def test_files_of_another_history_are_not_read(tmp_path, trials, change):
    expected = bits(learned(trials, tmp_path / 'own'))
    other = [(a, reward + (i == 0)) for i, (a, reward) in enumerate(trials)]
    learned(other, tmp_path / 'shared')
    learned(trials, tmp_path / 'shared', **change)
    assert bits(learned(trials, tmp_path / 'shared')) == expected


@pytest.mark.parametrize('content', [b'', b'PK\3\4', b'no weights'])
def test_a_damaged_file_is_a_sentence(tmp_path, trials, content):
    learned(trials, tmp_path)
    file = tmp_path / sorted(os.listdir(tmp_path))[-1]
    file.write_bytes(content)
    with pytest.raises(UserError, match=f'{file.name} cannot be read as the'):
        learned(trials, tmp_path)


def test_one_thread_draws(tmp_path):
    """Sums of several may have other bits."""
    threads, seen = torch.get_num_threads(), []

    class Watch(np.random.RandomState):
        def random_sample(self):
            seen.append(torch.get_num_threads())
            return super().random_sample()

    try:
        torch.set_num_threads(3)
        Controller(0, sizes=[2], heads=[0]).draw(Watch(0))
        assert (seen, torch.get_num_threads()) == ([1], 3)
    finally:
        torch.set_num_threads(threads)


def attempt(index, state, value=None, **attributes):
    """One attempt at a trial, as it is stored."""
    text = json.dumps(TWO.random(index).to_dict())
    known = dict(index=index, architecture=text, **attributes)
    return optuna.create_trial(
        state=getattr(TrialState, state), value=value, user_attrs=known
    )


def test_what_has_ended():
    stored = [
        attempt(2, 'COMPLETE', 20),
        attempt(0, 'FAIL'),  # Its worker died.
        attempt(1, 'FAIL', failure='no memory'),
        attempt(4, 'FAIL', failure='as trial 6', twin=6),
        attempt(5, 'PRUNED', 50),
        attempt(6, 'FAIL', failure='as trial 7', twin=7),
        attempt(7, 'RUNNING'),
    ]
    assert ended(stored) == []
    stored.append(attempt(0, 'COMPLETE', 10))
    assert [reward for _, reward in ended(stored)] == [10, 0, 20]
    stored.append(attempt(3, 'FAIL', failure='as trial 1', twin=1))
    assert [reward for _, reward in ended(stored)] == [10, 0, 20, 0]
    stored[6] = attempt(7, 'COMPLETE', 70)
    found = ended(stored)
    assert [r for _, r in found] == [10, 0, 20, 0, 70, 50, 70, 70]
    assert [a for a, _ in found] == [TWO.random(index) for index in range(8)]


def test_trials_of_other_samplers_teach_nothing(tmp_path, trials):
    mixed = [trials[0], (TWO.random(0), 99.0), *trials[1:]]
    found = learned(mixed, tmp_path / 'mixed')
    assert bits(found) == bits(learned(trials, tmp_path / 'own'))
    # A file has the number of the last trial.
    assert '000006' in {file[:6] for file in os.listdir(tmp_path / 'mixed')}


def test_what_is_proposed_depends_on_the_trial(tmp_path, trials):
    sampler = learned(trials, tmp_path)
    drawn = [sampler.propose(TWO, 0, i, set(), []) for i in (7, 8, 7)]
    assert drawn[0] == drawn[2] != drawn[1]
    assert drawn[0].provenance == drawn[2].provenance
    chosen = TWO.choices(drawn[0]).values()
    options = (range(-1, 0), TWO.operations, range(-1, 1), TWO.operations)
    assert drawn[0].provenance['choices'] == [
        list(allowed).index(choice)
        for allowed, choice in zip(options, chosen, strict=True)
    ]


def test_a_space_whose_choices_depend_on_each_other(tmp_path):
    with pytest.raises(UserError, match='same choices, but here one depends'):
        learned([], tmp_path, AutoDeepLabSpace(4, 2))


def replayed(one, folder):
    """What an undisturbed worker learns and draws, of the trials of another.

    Every draw is checked.
    """
    found = ended(one.study.trials)
    for index, (drawn, _) in enumerate(found):
        known = found[: drawn.provenance['learnt']]
        sampler = learned(known, folder / str(index))
        again = sampler.propose(TWO, 0, index, set(), [])
        assert again == drawn
        for key in ('choices', 'log_prob', 'learnt'):
            assert again.provenance[key] == drawn.provenance[key]
    return bits(learned(found, folder / 'end'))


def test_a_worker_feeds_what_ended(tmp_path):
    """Failures are worth nothing, pruned ones their last value."""
    cfg = search_config(
        sampler=SAMPLER,
        trials=5,
        pruner=dict(type='ThresholdPruner', lower=25),
    )
    one = worker(
        tmp_path,
        cfg,
        failures={1: TrialFailed('CUDA out of memory')},
        values={0: 70, 2: 20, 3: 50},
    )
    one.run()
    rewards = [reward for _, reward in ended(one.study.trials)]
    assert rewards[:4] == [70, 0, 20, 50]
    assert len(rewards) == 6
    replayed(one, tmp_path)


def test_trials_behind_one_that_runs_wait(tmp_path):
    """So that they are learned in the order of their numbers."""
    cfg, seen = search_config(sampler=SAMPLER), []

    def busy(cfg, folder, report, held):
        if folder.endswith('0001/stage_0'):
            other.run()
            seen.append(len(ended(other.study.trials)))
        return train(cfg, folder, report, held)

    one, other = (worker(tmp_path, cfg, t) for t in (busy, train))

    def tell(line):
        other.stopping = 'trial 3' in line

    other.tell = tell
    one.run()
    assert seen == [1]
    learnt = [a.provenance['learnt'] for a, _ in ended(one.study.trials)]
    assert learnt == [0, 1, 1, 1]
    replayed(one, tmp_path)


def test_killed_workers_learn_what_one_learns(tmp_path, monkeypatch):
    """Whether they are killed as they train or as they write weights."""
    cfg = search_config(sampler=SAMPLER, trials=6)
    calm = worker(tmp_path / 'calm', cfg)
    calm.run()
    events = []

    def mortal(event):
        events.append(event)
        if len(events) in (2, 3, 6, 9, 13):
            raise Killed

    def mortal_train(cfg, folder, report, held):
        mortal('train')
        return train(cfg, folder, report, held)

    replace = os.replace

    def mortal_replace(source, target):
        if target.endswith('.pt'):
            mortal('write')
        replace(source, target)

    monkeypatch.setattr(os, 'replace', mortal_replace)
    for _ in range(5):
        with pytest.raises(Killed):
            worker(tmp_path / 'wild', cfg, mortal_train).run()
    wild = worker(tmp_path / 'wild', cfg, mortal_train)
    wild.run()
    assert {'train', 'write'} == {events[i - 1] for i in (2, 3, 6, 9, 13)}
    assert ended(calm.study.trials) == ended(wild.study.trials)
    assert replayed(calm, tmp_path / 'a') == replayed(wild, tmp_path / 'b')
    assert len(read_results(tmp_path / 'wild')) == 6


def test_what_is_drawn_again_is_told_with_its_reward(tmp_path):
    """And is not trained again, nor counted."""
    trained = []

    def counted(cfg, folder, report, held):
        trained.append(folder)
        return train(cfg, folder, report, held)

    space = dict(SPACE, num_branches=1)
    cfg = search_config(space=space, sampler=SAMPLER, trials=15)
    one = worker(tmp_path, cfg, counted)
    one.run()
    found = ended(one.study.trials)
    rewards = dict(found[::-1])
    assert len(trained) == len(rewards) == 15 < len(found)
    assert all(reward == rewards[a] > 0 for a, reward in found)
    assert np.isfinite([a.provenance['log_prob'] for a, _ in found]).all()
