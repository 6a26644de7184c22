"""Workers of a study, with a function in place of the training."""

import itertools
import json
import math
import sqlite3
from contextlib import closing

import optuna
import pytest
from small_study import SPACE, search_config, train, worker

from mmseg_autodeeplab.arch import AutoDeepLabSpace, DPCSpace
from mmseg_autodeeplab.errors import Occupied, Unavailable, UserError
from mmseg_autodeeplab.files import write_atomically
from mmseg_autodeeplab.search.blackbox import (
    NearBestSampler,
    UniformSampler,
    read_reranked,
    read_results,
    read_settings,
    rerank_file,
)
from mmseg_autodeeplab.search.blackbox import worker as worker_module
from mmseg_autodeeplab.search.blackbox.proxy import (
    TrialFailed,
    reward,
    stage_config,
)
from mmseg_autodeeplab.search.blackbox.samplers import key
from mmseg_autodeeplab.search.blackbox.trials import FAIL

SAMPLERS = dict(
    UniformSampler={},
    NearBestSampler=dict(p=0.7),
    TPESampler=dict(n_startup_trials=2),
    ControllerSampler=dict(hidden=6, buffer=3),
)


RESULT = (
    '{"index": 0, "number": 0, "state": "complete", "rewards": [50.0], '
    '"failure": null, "ended": "", "seconds": 1.0}'
)


class Killed(BaseException):
    """As if by kill -9: nothing is told."""


def found(work_dir):
    """What a study has found, by trial."""
    return {
        r.index: (r.architecture, r.rewards, r.state)
        for r in read_results(str(work_dir))
    }


@pytest.fixture
def no_waiting(monkeypatch):
    """A worker that would wait for others stops instead."""

    def stop_instead(*workers):
        def sleep(seconds):
            for each in workers:
                each.stopping = True

        monkeypatch.setattr(worker_module.time, 'sleep', sleep)

    return stop_instead


def test_a_search(tmp_path):
    one = worker(tmp_path)
    one.run()
    results = read_results(str(tmp_path))
    assert [r.rewards for r in results] == sorted(
        (r.rewards for r in results), reverse=True
    )
    assert sorted(r.index for r in results) == [0, 1, 2, 3]
    assert {r.state for r in results} == {'complete'}
    best = results[0]
    assert best.folder == str(tmp_path / 'trials' / f'{best.index:04d}')
    assert dict(best.architecture.provenance)['study'] == 'small'
    assert len(one.said) == 4
    assert one.said[0].startswith(
        f'trial 0 complete: {found(tmp_path)[0][1][0]:.5g} | 1/4 done, best '
    )
    assert 'the rest by about' in one.said[0]
    assert one.said[-1].endswith(
        f'| 4/4 done, best {best.rewards[-1]:.5g} (trial {best.index})'
    )


def test_trials_are_counted_over_all_calls(tmp_path):
    calls = []

    def counted(cfg, folder, report, held):
        calls.append(folder)
        return train(cfg, folder, report, held)

    for trials, done in ((2, 2), (2, 2), (5, 5)):
        worker(tmp_path, search_config(trials=trials), counted).run()
        assert len(calls) == len(found(tmp_path)) == done


@pytest.mark.parametrize('sampler', SAMPLERS)
def test_a_worker_per_trial_proposes_what_one_proposes(tmp_path, sampler):
    def cfg(trials):
        options = dict(type=sampler, **SAMPLERS[sampler])
        return search_config(sampler=options, trials=trials)

    worker(tmp_path / 'one', cfg(4)).run()
    for trials in range(1, 5):
        worker(tmp_path / 'many', cfg(trials)).run()
    assert found(tmp_path / 'one') == found(tmp_path / 'many')
    worker(tmp_path / 'other', search_config(seed=1)).run()
    assert found(tmp_path / 'one') != found(tmp_path / 'other')


def test_workers_at_the_same_time(tmp_path, no_waiting):
    """The second does all but what the first is at, and no trial more."""
    worker(tmp_path / 'one').run()

    def busy(cfg, folder, report, held):
        if folder.endswith('0001/stage_0'):
            second.run()
        return train(cfg, folder, report, held)

    first, second = (worker(tmp_path / 'two', train=t) for t in (busy, train))
    no_waiting(second)
    first.run()
    assert len(second.said) == 2
    assert found(tmp_path / 'one') == found(tmp_path / 'two')


def test_a_dead_worker_loses_nothing(tmp_path):
    """Others go on with its trial, at once, also with its earlier stages."""
    cfg = search_config(stages=[dict(), dict(top=1.0)])
    worker(tmp_path / 'one', cfg).run()
    trained = []

    def mortal(cfg, folder, report, held):
        trained.append(folder.split('/')[-2:])
        if len(trained) in (2, 4, 7):
            raise Killed
        return train(cfg, folder, report, held)

    for _ in range(3):
        with pytest.raises(Killed):
            worker(tmp_path / 'two', cfg, mortal).run()
    last = worker(tmp_path / 'two', cfg, mortal)
    last.run()
    assert found(tmp_path / 'one') == found(tmp_path / 'two')
    # Each stage once, and once more for each death.
    assert len(trained) == 2 * 4 + 3
    states = [t.state.name for t in last.study.trials]
    assert states.count('COMPLETE') == 4
    assert states.count('FAIL') == len(states) - 4 == 3


def test_a_worker_that_dies_before_it_proposes(tmp_path):
    worker(tmp_path / 'one').run()
    dying = worker(tmp_path / 'two')
    dying._architecture = None  # As if it died there.
    with pytest.raises(TypeError):
        dying.run()
    worker(tmp_path / 'two').run()
    assert found(tmp_path / 'one') == found(tmp_path / 'two')


def test_a_worker_of_another_machine_that_dies_as_it_proposes(
    tmp_path, monkeypatch, no_waiting
):
    """Heartbeats alone tell of it, so there must be one by then."""

    class Dying:
        def propose(self, *args):
            raise Killed

    cfg = search_config(trials=2)
    worker(tmp_path / 'one', cfg).run()
    lost = worker(tmp_path / 'two', cfg)
    lost.sampler = Dying()
    with pytest.raises(Killed):
        lost.run()
    with closing(sqlite3.connect(tmp_path / 'two' / 'study.db')) as db, db:
        db.execute("UPDATE trial_heartbeats SET heartbeat = '2000-01-01'")
    monkeypatch.setattr(worker_module.socket, 'gethostname', lambda: 'other')
    other = worker(tmp_path / 'two', cfg)
    no_waiting(other)
    other.run()
    assert found(tmp_path / 'one') == found(tmp_path / 'two')


def test_a_live_worker_keeps_its_trial(tmp_path, no_waiting):
    """A look by another one is no death."""
    looked = []

    def watched(cfg, folder, report, held):
        other = worker(tmp_path, search_config(trials=1))
        no_waiting(other)
        other.run()
        looked.append(other.said)
        return train(cfg, folder, report, held)

    worker(tmp_path, search_config(trials=1), watched).run()
    assert looked == [[]]


def test_what_fails_is_told_and_the_search_goes_on(tmp_path):
    failures = {1: TrialFailed('CUDA out of memory')}
    one = worker(tmp_path, failures=failures)
    one.run()
    results = read_results(str(tmp_path))
    assert [r.state for r in results] == ['complete'] * 4 + ['failed']
    assert (results[-1].index, results[-1].failure) == (
        1,
        'CUDA out of memory',
    )
    assert one.said[1].startswith('trial 1 failed: CUDA out of memory | 1/4')
    # It is not tried again.
    worker(tmp_path, search_config(trials=5)).run()
    assert sorted(found(tmp_path)) == [0, 1, 2, 3, 4, 5]


def test_what_another_worker_has_taken_over_does_not_fail(tmp_path):
    """As after a pause, in which others missed its signs of life."""
    attempts = []

    def paused(cfg, folder, report, held):
        attempts.append(folder)
        if len(attempts) == 1:
            one.study.tell(0, state=FAIL)
            raise TrialFailed('out of memory')
        return train(cfg, folder, report, held)

    one = worker(tmp_path, search_config(trials=1), paused)
    one.run()
    assert one.said[0] == 'trial 0: another worker has taken it over'
    assert [r.state for r in read_results(str(tmp_path))] == ['complete']


def test_a_training_that_is_still_there_is_waited_for(tmp_path, monkeypatch):
    """Of a worker that was paused: the trial is not told as failed."""
    worker(tmp_path / 'one').run()
    busy = [Occupied('another training is running')] * 3
    monkeypatch.setattr(worker_module.time, 'sleep', lambda s: busy.pop())

    def beside(cfg, folder, report, held):
        if folder.split('/')[-2] == '0001' and busy:
            raise busy[0]
        return train(cfg, folder, report, held)

    one = worker(tmp_path / 'two', train=beside)
    one.run()
    assert found(tmp_path / 'one') == found(tmp_path / 'two')
    assert one.said[1:4] == ['trial 1 waits: another training is running'] * 3
    assert len(one.study.trials) == 4


def test_who_is_asked_to_stop_waits_for_nobody(tmp_path):
    def beside(cfg, folder, report, held):
        one.stopping = True
        raise Occupied('another training is running')

    one = worker(tmp_path, train=beside)
    with pytest.raises(Occupied):
        one.run()
    worker(tmp_path, search_config(trials=1)).run()
    assert sorted(found(tmp_path)) == [0]


def test_a_place_that_cannot_be_used_settles_no_trial(tmp_path):
    """A full disk, or a training that is still there, tell of no cell."""
    worker(tmp_path / 'one').run()
    full = Unavailable('the disk is full')
    with pytest.raises(Unavailable, match='the disk is full'):
        worker(tmp_path / 'two', failures={1: full}).run()
    assert sorted(found(tmp_path / 'two')) == [0]
    worker(tmp_path / 'two').run()
    assert found(tmp_path / 'one') == found(tmp_path / 'two')


def test_a_search_of_failures_ends(tmp_path):
    failures = dict.fromkeys(range(99), TrialFailed('no such file'))
    with pytest.raises(UserError, match='10 trials in a row .* no such file'):
        worker(tmp_path, failures=failures).run()


def test_an_unknown_reward_ends_the_search_and_loses_no_trial(tmp_path):
    with pytest.raises(UserError, match='gives mIoU, aAcc: choose'):
        worker(tmp_path, search_config(reward='miou')).run()
    one = worker(tmp_path)
    one.run()
    assert sorted(found(tmp_path)) == [0, 1, 2, 3]


def test_later_stages_are_for_the_better_trials(tmp_path):
    stages = [dict(), dict(top=0.5, train_cfg=dict(max_iters=2))]
    scores, trained = {0: 30, 1: 20, 2: 40, 3: 35, 4: 10}, []

    def staged(cfg, folder, report, held):
        trained.append((int(folder[-12:-8]), cfg.train_cfg.max_iters))
        return train(cfg, folder, report, held, values=scores)

    cfg = search_config(stages=stages, trials=5)
    worker(tmp_path, cfg, staged).run()
    # Of 1, 2, 3, 4 and 5 trials the best 1, 1, 2, 2 and 3.
    assert [i for i, stage in trained if stage == 2] == [0, 2, 3]
    results = read_results(str(tmp_path))
    assert [r.index for r in results] == [2, 3, 0, 1, 4]
    assert [len(r.rewards) for r in results] == [2, 2, 2, 1, 1]


def test_pruning(tmp_path):
    pruner = dict(type='ThresholdPruner', lower=25)
    cfg = search_config(pruner=pruner, stages=[dict(), dict()])
    one = worker(tmp_path, cfg, values={1: 20})
    one.run()
    states = {
        r.index: (r.state, len(r.rewards)) for r in read_results(tmp_path)
    }
    done = ('complete', 2)
    assert states == {0: done, 1: ('pruned', 0), 2: done, 3: done}


@pytest.mark.parametrize(
    'space', [DPCSpace(1), AutoDeepLabSpace(1, 1)], ids=['DPC', 'AutoDeepLab']
)
def test_no_architecture_twice(space):
    for sampler in (UniformSampler(), NearBestSampler(p=0.7)):
        taken, best = set(), []
        for index in range(space.count()):
            drawn = sampler.propose(space, 0, index, taken, best)
            assert key(space, drawn) not in taken
            taken.add(key(space, drawn))
            best = [drawn, *best][:3]
    # Also where those of earlier trials are not stored.
    drawn = {
        key(space, UniformSampler().propose(space, 0, index, set(), []))
        for index in range(10)
    }
    assert len(drawn) == 10


@pytest.mark.parametrize('sampler', [UniformSampler(), NearBestSampler()])
def test_all_were_drawn(monkeypatch, sampler):
    """As where some have failed, which are then missing."""
    space, draws = DPCSpace(1), itertools.count()
    draw = space.random

    def random(seed):
        assert next(draws) < 50 * space.count(), 'It draws for ever.'
        return draw(seed)

    monkeypatch.setattr(DPCSpace, 'random', lambda space, seed: random(seed))
    every = {
        (('input_0', -1), ('operation_0', operation))
        for operation in space.operations
    }
    last = space.random(7)
    assert sampler.propose(space, 0, 3, every - {key(space, last)}, []) == last
    for index in (3, space.count(), space.count() + 1):
        with pytest.raises(UserError, match='^all 81 architectures of the'):
            sampler.propose(space, 0, index, every, [])


def test_near_the_best():
    space = DPCSpace(5)
    best = [space.random(seed) for seed in (1, 2, 3)]

    def distances(sampler, index):
        drawn = space.choices(
            sampler.propose(space, 0, index, set(), best)
        ).items()
        return [len(drawn - space.choices(b).items()) for b in best]

    near = [distances(NearBestSampler(1, 2), i) for i in range(50)]
    assert all(1 in d[:2] and d[2] > 1 for d in near)
    half = [min(distances(NearBestSampler(0.5), i)) for i in range(200)]
    assert 80 < half.count(1) < 120
    none = NearBestSampler(1).propose(space, 0, 0, set(), [])
    assert none == space.random([0, 0, 0])


def test_a_sampler_of_optuna_may_repeat_itself(tmp_path):
    """What it proposes again is not trained again, and not counted."""
    cfg = search_config(
        space=dict(SPACE, num_branches=1),
        sampler=dict(type='RandomSampler'),
        trials=30,
    )
    worker(tmp_path, cfg).run()
    results = read_results(str(tmp_path))
    complete = [r for r in results if r.state == 'complete']
    assert len(complete) == len({str(r.architecture) for r in complete}) == 30
    failed = {r.failure for r in results if r.state == 'failed'}
    assert failed and all(
        f.startswith('it has the architecture of trial ') for f in failed
    )


@pytest.mark.parametrize(
    'names, values, expected',
    [
        (['mIoU'], dict(mIoU=40.0), 40.0),
        (['a', 'b'], dict(a=20.0, b=80.0, c=1), 40.0),
        (['a', 'b'], dict(a=0.0, b=80.0), 0.0),
        (['a'], dict(a=math.nan), TrialFailed),
        (['a'], dict(a=None), TrialFailed),
        (['a'], dict(a=-1.0), TrialFailed),
        (['a', 'd'], dict(a=1.0), UserError),
    ],
)
def test_reward(names, values, expected):
    if isinstance(expected, float):
        assert reward(values, names) == pytest.approx(expected)
    else:
        with pytest.raises(expected):
            reward(values, names)


def test_the_config_of_a_stage():
    stage = dict(top=0.5, train_cfg=dict(max_iters=9))
    cell = DPCSpace(2).random(0)
    search = search_config(stages=[stage])
    search.retrain = dict(train_cfg=dict(max_iters=99))
    cfg = stage_config(search, cell, stage, 7, '')
    assert cfg.model.decode_head.arch == cell.content()
    assert cfg.train_cfg.max_iters == 9
    assert cfg.randomness.seed == 7
    assert not {'search', 'retrain', 'top'} & {*cfg}
    assert search.train_cfg.max_iters == 1


def test_cells_and_paths_are_searched_as_well():
    search = search_config(space=dict(type='AutoDeepLabSpace'))
    architecture = AutoDeepLabSpace(4, 2).random(0)
    search.model.backbone = dict(
        type='AutoDeepLab', arch='autodeeplab', filter_multiplier=4
    )
    search.model.decode_head = dict(
        type='AutoDeepLabHead',
        in_channels=[1, 1],
        dilations=(12, 24, 36),
        channels=8,
        num_classes=2,
    )
    cfg = stage_config(search, architecture, {}, 0, '')
    assert cfg.model.backbone.arch == architecture.content()
    final = 2 * 4 * architecture.path[-1] // 4
    assert cfg.model.decode_head.in_channels[-1] == final
    rate = 96 // architecture.path[-1]
    assert cfg.model.decode_head.dilations == [rate, 2 * rate, 3 * rate]
    search.model.decode_head.dilations = (2, 4, 6)
    cfg = stage_config(search, architecture, {}, 0, '')
    assert cfg.model.decode_head.dilations == (2, 4, 6)


def test_a_model_without_a_place_for_it():
    with pytest.raises(UserError, match='but model.backbone is a ResNet'):
        stage_config(
            search_config(), AutoDeepLabSpace(2, 1).random(0), {}, 0, ''
        )


@pytest.mark.parametrize(
    'search, sentence',
    [
        (None, 'has no search=dict'),
        (dict(space=None), 'is None, but its type must be one of'),
        (dict(space=dict(type='Nowhere')), 'AutoDeepLabSpace, DPCSpace'),
        (dict(space=dict(type='UniformSampler')), 'must be one of'),
        (dict(space=dict(SPACE, num_branches=0)), 'num_branches is 0'),
        (dict(trails=3), 'trails'),
        (dict(trials=0), 'trials is 0'),
        (dict(space=dict(SPACE, num_branches=1), trials=82), '81 arch'),
        (dict(reward=[]), 'reward is'),
        (dict(stages=[dict(top=50)]), 'stages is'),
        (dict(heartbeat=60), 'cannot be read'),
    ],
)
def test_settings_that_cannot_be(search, sentence):
    cfg = search_config(**search or {})
    if search is None:
        cfg.pop('search')
    with pytest.raises(UserError, match=sentence):
        read_settings(cfg)


@pytest.mark.parametrize(
    'search, url, sentence',
    [
        ({}, 'nonsense', 'the storage nonsense cannot be used'),
        ({}, 'postgresql://a:b@127.0.0.1:9/x', r'a:\*\*\*@127.* used'),
        ({}, 'sqlite:////no/such/folder/x.db', 'cannot be used'),
        (dict(pruner=dict(type='Shears')), None, 'one of .*MedianPruner'),
        (dict(pruner=dict(type='ThresholdPruner')), None, 'cannot be built'),
        (dict(sampler=dict(type='Any')), None, 'NearBestSampler, .*TPE'),
        (dict(sampler=dict(type='TPESampler', x=1)), None, 'cannot be built'),
        (dict(sampler=dict(type='NearBestSampler', x=1)), None, 'be built'),
        (dict(sampler=dict(type='ControllerSampler', x=1)), None, 'be built'),
        (
            dict(sampler=dict(type='ControllerSampler', buffer=0)),
            None,
            'be built .*buffer is 0',
        ),
        (
            dict(pruner=dict(type='MovingAveragePruner', x=1)),
            None,
            'pruner cannot be built',
        ),
    ],
)
def test_studies_that_cannot_be(tmp_path, monkeypatch, search, url, sentence):
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    worker(tmp_path, search_config(trials=1)).run()
    with pytest.raises(UserError, match=sentence) as error:
        worker(tmp_path, search_config(**search), url=url)
    assert '\n' not in str(error.value)
    assert sorted(found(tmp_path)) == [0]


@pytest.mark.parametrize('has_id', [True, False])
@pytest.mark.parametrize('other', ['name', 'file', 'storage'])
def test_a_folder_belongs_to_one_study(tmp_path, other, has_id):
    """Another one would go on with its trainings, and take their rewards."""
    work_dir, options = tmp_path / 'work', {}
    worker(work_dir, search_config(trials=1)).run()
    before = found(work_dir)
    if other == 'name':
        options = dict(name='other')
    elif other == 'storage':
        options = dict(url=f'sqlite:///{tmp_path}/other.db')
    else:
        (work_dir / 'study.db').unlink()
    if not has_id:  # As earlier versions left it.
        (work_dir / 'study_id').unlink()
    with pytest.raises(UserError, match='the trials of another study than'):
        worker(work_dir, search_config(trials=2), **options)
    assert found(work_dir) == before
    # Elsewhere it may begin.
    worker(tmp_path / 'new', search_config(trials=2), **options).run()
    if other != 'file':
        worker(work_dir, search_config(trials=2)).run()
        assert sorted(found(work_dir)) == [0, 1]


def test_no_study_is_begun_in_the_folder_of_another(tmp_path):
    worker(tmp_path, search_config(trials=1)).run()
    with pytest.raises(UserError):
        worker(tmp_path, name='other')
    url = f'sqlite:///{tmp_path}/study.db'
    assert optuna.get_all_study_names(url) == ['small']


def test_a_study_of_an_earlier_version_goes_on(tmp_path):
    """Neither it nor its folder has an id, which both are given."""
    worker(tmp_path, search_config(trials=1)).run()
    (tmp_path / 'study_id').unlink()
    with closing(sqlite3.connect(tmp_path / 'study.db')) as db, db:
        db.execute(
            'DELETE FROM study_user_attributes '
            "WHERE key NOT IN ('space', 'reward')"
        )
    worker(tmp_path, search_config(trials=2)).run()
    assert sorted(found(tmp_path)) == [0, 1]
    (tmp_path / 'study.db').unlink()
    with pytest.raises(UserError, match='the trials of another study than'):
        worker(tmp_path, search_config(trials=2))


@pytest.mark.parametrize(
    'change, names',
    [
        (dict(search=dict(space=dict(num_branches=3))), 'space.num_branches'),
        (dict(search=dict(reward='aAcc')), 'reward'),
        (dict(search=dict(limit=dict(parameters=1e9))), 'limit.parameters'),
        (dict(search=dict(penalty=dict(parameters=9))), 'penalty.parameters'),
        (dict(search=dict(stages=[dict(top=0.5)])), 'stages.0.top'),
        (dict(search=dict(seed=1)), 'seed'),
        (
            dict(model=dict(backbone=dict(depth=50)), train_cfg=dict(a=1)),
            'model.backbone.depth and another train_cfg.a',
        ),
        (
            dict(train_dataloader=dict(num_workers=9, dataset='other')),
            'train_dataloader.dataset',
        ),
        (dict(load_from='other.pth'), 'load_from'),
    ],
)
def test_what_rewards_depend_on_stays(tmp_path, change, names):
    """Or rewards of one study could not be compared."""
    loader = dict(train_dataloader=dict(num_workers=1, dataset='shapes'))
    cfg = search_config(trials=1)
    cfg.merge_from_dict(loader)
    worker(tmp_path, cfg).run()
    cfg = search_config(trials=2)
    cfg.merge_from_dict(loader)
    cfg.merge_from_dict(change)
    with pytest.raises(UserError, match=f'by another {names} than that of'):
        worker(tmp_path, cfg)
    assert sorted(found(tmp_path)) == [0]


def test_the_sentence_has_both_values(tmp_path):
    worker(tmp_path, search_config(trials=1)).run()
    with pytest.raises(UserError, match=r"was \['mIoU'\] and is \['aAcc'\]"):
        worker(tmp_path, search_config(reward='aAcc'))


def test_what_rewards_do_not_depend_on_may_change(tmp_path):
    cfg = search_config(trials=1, stages=[{}])
    data = [dict(type='ADE20KDataset', data_root='/here')]
    both = dict(type='ConcatDataset', datasets=data)
    cfg.merge_from_dict(dict(val_dataloader=dict(dataset=both)))
    worker(tmp_path, cfg).run()
    cfg = search_config(
        trials=2,
        heartbeat=(30, 90),
        sampler=dict(type='NearBestSampler'),
        pruner=dict(type='MedianPruner'),
    )
    cfg.merge_from_dict(
        dict(
            val_dataloader=dict(
                dataset=dict(
                    both, datasets=[dict(data[0], data_root='/there')]
                ),
                num_workers=3,
            ),
            default_hooks=dict(logger=dict(interval=1)),
            retrain=dict(train_cfg=dict(max_iters=9)),
            work_dir='elsewhere',
            helper=1,
        )
    )
    worker(tmp_path, cfg).run()
    assert sorted(found(tmp_path)) == [0, 1]


def test_all_may_change_as_long_as_there_is_no_reward(tmp_path):
    with pytest.raises(Killed):
        worker(tmp_path, failures={0: Killed()}).run()
    worker(tmp_path, search_config(reward='aAcc', trials=1)).run()
    assert found(tmp_path)[0][1] == [60.0]
    with pytest.raises(UserError, match='by another reward'):
        worker(tmp_path, search_config(trials=1))


def test_any_name_of_a_folder(tmp_path, no_waiting):
    """Also one that is a pattern, or that a URL would read otherwise."""
    for name in ('lr[0.1]', 'a%20b', 'a b?c=d', '{x}#'):
        work_dir = tmp_path / name
        with pytest.raises(Killed):
            worker(work_dir, failures={1: Killed()}).run()
        last = worker(work_dir)
        no_waiting(last)
        last.run()
        assert sorted(found(work_dir)) == [0, 1, 2, 3]
        assert (work_dir / 'study.db').is_file()
        file = rerank_file(str(work_dir), 3)
        write_atomically(file, '{"trial": 3, "proxy": 1.0, "value": 2.0}')
        assert [one.trial for one in read_reranked(str(work_dir))] == [3]
    assert len(list(tmp_path.iterdir())) == 4


def test_the_files_of_a_trial(tmp_path):
    worker(tmp_path, search_config(trials=1)).run()
    folder = tmp_path / 'trials' / '0000'
    assert json.loads((folder / 'reward.json').read_text()).keys() == {
        'index',
        'number',
        'state',
        'rewards',
        'failure',
        'ended',
        'seconds',
        'value',
    }
    architecture = json.loads((folder / 'architecture.json').read_text())
    assert architecture['provenance']['trial'] == 0


@pytest.mark.parametrize(
    'text',
    [
        '',
        '[]',
        '{}',
        '{"index": 0}',
        'nan',
        RESULT.replace('"number": 0', '"number": "x"'),
        RESULT.replace('[50.0]', '["x"]'),
        RESULT.replace('[50.0]', 'null'),
        RESULT.replace('"index"', '"other"'),
        RESULT.replace('}', ', "value": "x"}'),
    ],
)
def test_a_damaged_result_is_a_sentence(tmp_path, text):
    worker(tmp_path, search_config(trials=1)).run()
    file = tmp_path / 'trials' / '0000' / 'reward.json'
    file.write_text(RESULT)
    assert read_results(str(tmp_path))[0].rewards == [50.0]
    file.write_text(text)
    with pytest.raises(UserError, match='reward.json cannot be read as the'):
        read_results(str(tmp_path))
