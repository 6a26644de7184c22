"""A worker: takes a trial, trains its proxy, tells the reward, and goes on."""

import datetime
import glob
import json
import os
import os.path as osp
import socket
import time
import uuid
import warnings
from collections.abc import Callable
from typing import Optional

from mmengine.config import Config

from ...arch import Architecture
from ...errors import UserError
from ...files import lock, locked, to_json
from ..history import ARCHITECTURE_FILE
from . import proxy
from .results import rank, trial_folder, write_result
from .samplers import key, suggest
from .settings import Settings
from .study import beating, optuna, sampler

WAITING, RUNNING, COMPLETE, PRUNED, FAIL = (
    getattr(optuna.trial.TrialState, name)
    for name in ('WAITING', 'RUNNING', 'COMPLETE', 'PRUNED', 'FAIL')
)
POLL = 2.0  # seconds between two looks at what others do
MAX_FAILURES = 10  # in a row

# Attributes of a trial: INDEX and WORKER are there from its creation on; one
# that goes on with the work of a dead worker has all of the earlier one's.
INDEX, WORKER = 'index', 'worker'
ARCHITECTURE, REWARDS, FAILURE = 'architecture', 'rewards', 'failure'
TWIN = 'twin'  # the trial that had its architecture before


class Worker:
    """One of any number of workers of a study, on any number of machines.

    A worker holds the lock of a file for as long as it, or the training that
    it started, lives; what a dead one was at, others go on with. Of workers
    on other machines, the heartbeats tell.

    Args:
        cfg (Config): Of the proxy, with ``search``.
        study (optuna.Study): As :func:`.study.open_study` gives it.
        train (Callable): Takes the place of :func:`.proxy.train`.
        tell (Callable): Is given a line per trial.
    """

    def __init__(
        self,
        cfg: Config,
        settings: Settings,
        study: optuna.Study,
        storage: optuna.storages.RDBStorage,
        work_dir: str,
        train: Callable = proxy.train,
        tell: Callable[[str], None] = print,
    ) -> None:
        self.cfg = cfg
        self.settings = settings
        self.study = study
        self.storage = storage
        self.work_dir = work_dir
        self.train = train
        self.tell = tell
        self.stopping = False
        self.sampler = sampler(settings.sampler)
        self.folder = osp.join(work_dir, 'workers')
        os.makedirs(self.folder, exist_ok=True)
        host = socket.gethostname()
        self.name = f'{os.getpid()}.{uuid.uuid4().hex[:6]}@{host}'
        with self._alone():
            self.lock = lock(self._lock_file(self.name))

    def run(self) -> None:
        """Work until as many trials as wanted are finished."""
        failures = 0
        try:
            while not self.stopping:
                with self._alone():
                    claimed = self._claim()
                if claimed:
                    failure = self._work(*claimed)
                    failures = failure and failures + 1 or 0
                    if failures == MAX_FAILURES:
                        raise UserError(
                            f'{failures} trials in a row failed, the last '
                            f'with: {failure}'
                        )
                elif len(self._finished()) >= self.settings.trials:
                    break
                else:
                    time.sleep(POLL)
        finally:
            os.close(self.lock)

    def _alone(self):
        """No two workers that share the folder choose at the same time."""
        return locked(osp.join(self.folder, 'study.lock'))

    def _lock_file(self, name):
        return osp.join(self.folder, f'{name}.lock')

    def _trials(self):
        return self.study.get_trials(deepcopy=False)

    def _finished(self):
        return [t for t in self._trials() if t.state in (COMPLETE, PRUNED)]

    def _claim(self):
        """Take a trial and its architecture, or None where there is none."""
        self._bury()
        trials = self._trials()
        waiting = [t for t in trials if t.state == WAITING]
        if waiting:
            index = _index(waiting[0])
        else:
            if len(_indices(filter(_counts, trials))) >= self.settings.trials:
                return None
            left = _indices(trials) - _indices(filter(_is_settled, trials))
            left -= _indices(t for t in trials if t.state == RUNNING)
            index = min(left, default=len(_indices(trials)))
            self._add(index, [t for t in trials if _index(t) == index])
        is_optunas = not hasattr(self.sampler, 'propose')
        if is_optunas:
            self.study.sampler = self.sampler(self.settings.seed, index)
        with warnings.catch_warnings():
            # There are heartbeats, see `beating`.
            warnings.simplefilter('ignore')
            trial = self.study.ask()
        index = trial.user_attrs[INDEX]
        # On another machine, a worker may have chosen at the same time.
        before = [t for t in self._trials() if t.number < trial.number]
        if index in _indices(
            t for t in before if _is_settled(t) or _counts(t)
        ) or self.settings.trials <= len(_indices(filter(_counts, before))):
            self.study.tell(trial, state=FAIL)
            return None
        trial.set_user_attr(WORKER, self.name)
        return trial, self._architecture(trial, index)

    def _bury(self):
        """Tell the trials of dead workers as failed, which are then left."""
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            optuna.storages.fail_stale_trials(self.study)
        pattern = self._lock_file(f'*@{glob.escape(socket.gethostname())}')
        dead = {}
        for file in glob.glob(pattern):
            descriptor = lock(file, wait=False)
            if descriptor is not None:
                os.close(descriptor)
                dead[osp.basename(file).removesuffix('.lock')] = file
        for trial in self._trials():
            if trial.state == RUNNING and trial.user_attrs[WORKER] in dead:
                self.study.tell(
                    trial.number, state=FAIL, skip_if_finished=True
                )
        for file in dead.values():
            os.unlink(file)

    def _add(self, index, earlier):
        """Add a trial, or another attempt that has all of the last one's."""
        last = earlier[-1] if earlier else None
        self.study.add_trial(
            optuna.create_trial(
                state=WAITING,
                params=last and last.params,
                distributions=last and last.distributions,
                user_attrs={
                    **(last.user_attrs if last else {}),
                    INDEX: index,
                    WORKER: self.name,
                },
            )
        )

    def _architecture(self, trial, index):
        if text := trial.user_attrs.get(ARCHITECTURE):
            return Architecture.from_dict(json.loads(text))
        space, others = self.settings.space, {}
        for other in self._trials():
            text = other.user_attrs.get(ARCHITECTURE)
            if text and _index(other) != index:
                architecture = Architecture.from_dict(json.loads(text))
                others[_index(other)] = architecture
        taken = {key(space, a): i for i, a in others.items()}
        if hasattr(self.sampler, 'propose'):
            best = sorted(
                (t for t in self._finished() if t.state == COMPLETE),
                key=lambda t: rank(t.user_attrs[REWARDS]),
                reverse=True,
            )
            architecture = self.sampler.propose(
                space,
                self.settings.seed,
                index,
                set(taken),
                [others[_index(t)] for t in best],
            )
        else:
            architecture = suggest(space, trial.suggest_categorical)
            if key(space, architecture) in taken:
                twin = taken[key(space, architecture)]
                trial.set_user_attr(TWIN, twin)
        trial.set_user_attr(ARCHITECTURE, to_json(architecture.to_dict()))
        return architecture

    def _work(self, trial, architecture) -> Optional[str]:
        """Train all stages of a trial; returns why it failed, if it did."""
        index = trial.user_attrs[INDEX]
        folder = trial_folder(self.work_dir, index)
        architecture = architecture.with_provenance(
            study=self.study.study_name, trial=index
        )
        begin = time.time()
        state, failure = COMPLETE, None
        architecture.dump(osp.join(folder, ARCHITECTURE_FILE))
        try:
            with beating(self.study, trial.number, self.storage):
                self._train_stages(trial, architecture, folder)
        except optuna.TrialPruned:
            state = PRUNED
        except proxy.TrialFailed as error:
            state, failure = FAIL, str(error)
            trial.set_user_attr(FAILURE, failure)
        except optuna.exceptions.UpdateFinishedTrialError:
            self.tell(f'trial {index}: another worker has taken it over')
            return None
        rewards = trial.user_attrs.get(REWARDS, [])
        words = {COMPLETE: 'complete', PRUNED: 'pruned', FAIL: 'failed'}
        write_result(
            folder,
            index=index,
            number=trial.number,
            state=words[state],
            rewards=rewards,
            failure=failure,
            ended=datetime.datetime.now().isoformat(timespec='seconds'),
            seconds=round(time.time() - begin, 1),
        )
        self.study.tell(
            trial,
            rewards[-1] if state == COMPLETE else None,
            state=state,
            skip_if_finished=True,
        )
        said = failure or ', then '.join(f'{r:.5g}' for r in rewards)
        self.tell(f'trial {index} {words[state]}: {said} | {self._progress()}')
        return failure

    def _train_stages(self, trial, architecture, folder):
        if (twin := trial.user_attrs.get(TWIN)) is not None:
            raise proxy.TrialFailed(f'it has the architecture of trial {twin}')
        rewards = list(trial.user_attrs.get(REWARDS, []))
        for number, stage in enumerate(self.settings.stages):
            if number < len(rewards):
                continue  # Done by an earlier attempt.
            if number and not self._is_among_best(trial, rewards, stage):
                break
            cfg = proxy.stage_config(
                self.cfg,
                architecture,
                stage,
                self.settings.seed,
                self.work_dir,
            )

            def report(step, values, first=not number):
                value = proxy.reward(values, self.settings.reward)
                if first:
                    trial.report(value, step)
                    if trial.should_prune():
                        raise optuna.TrialPruned

            values = self.train(
                cfg,
                osp.join(folder, f'stage_{number}'),
                report,
                held=[self.lock],
            )
            rewards.append(proxy.reward(values, self.settings.reward))
            trial.set_user_attr(REWARDS, rewards)

    def _is_among_best(self, trial, rewards, stage):
        """Whether its last reward is in the best share of all at its stage."""
        place, own = len(rewards) - 1, trial.user_attrs[INDEX]
        others = {
            _index(t): t.user_attrs[REWARDS][place]
            for t in self._trials()
            if len(t.user_attrs.get(REWARDS, [])) > place and _index(t) != own
        }
        better = sum(other > rewards[-1] for other in others.values())
        return better < stage.get('top', 1) * (len(others) + 1)

    def _progress(self):
        """Trials done, the best, and when the rest may be."""
        trials, wanted = self._trials(), self.settings.trials
        finished = self._finished()
        text = f'{len(finished)}/{wanted} done'
        complete = [t for t in finished if t.state == COMPLETE]
        if complete:
            best = max(complete, key=lambda t: rank(t.user_attrs[REWARDS]))
            text += f', best {best.value:.5g} (trial {_index(best)})'
        if 0 < len(finished) < wanted:
            mean = sum(
                (t.duration for t in finished), datetime.timedelta()
            ) / len(finished)
            # This worker and those that are at a trial now.
            workers = 1 + sum(t.state == RUNNING for t in trials)
            left = mean * (wanted - len(finished)) / workers
            end = datetime.datetime.now() + left
            text += f', the rest by about {end:%d %b %H:%M}'
        return text


def _index(trial):
    return trial.user_attrs[INDEX]


def _indices(trials):
    return {_index(trial) for trial in trials}


def _counts(trial):
    """Whether it is finished or may become so."""
    return trial.state in (WAITING, RUNNING, COMPLETE, PRUNED)


def _is_settled(trial):
    """Whether it is finished, or failed and not just its worker died."""
    return trial.state in (COMPLETE, PRUNED) or FAILURE in trial.user_attrs
