"""A worker: takes a trial, trains its proxy, tells the reward, and goes on."""

import datetime
import glob
import os
import os.path as osp
import socket
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Optional

from mmengine.config import Config

from ...errors import Occupied, UserError
from ...files import lock, to_json
from ..history import ARCHITECTURE_FILE
from . import proxy
from .bounds import Refused, reward_factor
from .results import rank, trial_folder, write_result
from .samplers import key, suggest
from .settings import Settings
from .study import alone, beating, optuna, sampler
from .trials import (
    ARCHITECTURE,
    COMPLETE,
    FAIL,
    FAILURE,
    INDEX,
    PRUNED,
    REWARDS,
    RUNNING,
    TWIN,
    WAITING,
    WORKER,
    architecture_of,
    counts,
    ended,
    index_of,
    indices,
    is_settled,
)

POLL = 2.0  # seconds between two looks at what others do
WAIT = 60.0  # seconds until a folder where another training is is tried again
STAGE_STEPS = 10**8  # more than a stage has: its first one for a pruner


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
        with alone(work_dir):
            self.lock = lock(osp.join(self.folder, f'{self.name}.lock'))

    def run(self) -> None:
        """Work until as many trials as wanted are finished."""
        failures = Counter()  # of a kind, in a row
        try:
            while not self.stopping:
                with alone(self.work_dir):
                    claimed = self._claim()
                if claimed:
                    failure = self._work(*claimed)
                    failures[type(failure)] += 1
                    if failure is None:
                        failures.clear()
                    elif failures[type(failure)] == failure.patience:
                        raise UserError(
                            failure.sentence.format(failure.patience, failure)
                        )
                elif len(self._finished()) >= self.settings.trials:
                    break
                else:
                    time.sleep(POLL)
        finally:
            os.close(self.lock)

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
            index = index_of(waiting[0])
        else:
            if len(indices(filter(counts, trials))) >= self.settings.trials:
                return None
            left = indices(trials) - indices(filter(is_settled, trials))
            left -= indices(t for t in trials if t.state == RUNNING)
            index = min(left, default=len(indices(trials)))
            self._add(index, [t for t in trials if index_of(t) == index])
        is_optunas = not hasattr(self.sampler, 'propose')
        if is_optunas:
            self.study.sampler = self.sampler(self.settings.seed, index)
        with warnings.catch_warnings():
            # There are heartbeats, see `beating`.
            warnings.simplefilter('ignore')
            trial = self.study.ask()
        # Without a heartbeat, no other machine would ever take it over.
        with beating(self.study, trial.number, self.storage):
            index = trial.user_attrs[INDEX]
            # On another machine, one may have chosen at the same time.
            before = [t for t in self._trials() if t.number < trial.number]
            if index in indices(
                t for t in before if is_settled(t) or counts(t)
            ) or self.settings.trials <= len(indices(filter(counts, before))):
                self.study.tell(trial, state=FAIL)
                return None
            trial.set_user_attr(WORKER, self.name)
            return trial, self._architecture(trial, index)

    def _bury(self):
        """Tell the trials of dead workers as failed, which are then left."""
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            optuna.storages.fail_stale_trials(self.study)
        folder, host = map(glob.escape, (self.folder, socket.gethostname()))
        dead = {}
        for file in glob.glob(osp.join(folder, f'*@{host}.lock')):
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
        if ARCHITECTURE in trial.user_attrs:
            return architecture_of(trial)
        space = self.settings.space
        others = {
            index_of(other): architecture_of(other)
            for other in self._trials()
            if ARCHITECTURE in other.user_attrs and index_of(other) != index
        }
        taken = {key(space, a): i for i, a in others.items()}
        if hasattr(self.sampler, 'propose'):
            best = sorted(
                (t for t in self._finished() if t.state == COMPLETE),
                key=lambda t: rank(t.user_attrs[REWARDS]),
                reverse=True,
            )
            seed = self.settings.seed
            if hasattr(self.sampler, 'learn'):
                weights = osp.join(self.work_dir, 'controller')
                told = ended(self._trials())
                self.sampler.learn(space, seed, told, weights)
            architecture = self.sampler.propose(
                space,
                seed,
                index,
                set(taken),
                [others[index_of(t)] for t in best],
            )
        else:
            architecture = suggest(space, trial.suggest_categorical)
        if key(space, architecture) in taken:
            trial.set_user_attr(TWIN, taken[key(space, architecture)])
        trial.set_user_attr(ARCHITECTURE, to_json(architecture.to_dict()))
        return architecture

    def _work(self, trial, architecture) -> Optional[proxy.TrialFailed]:
        """Train all stages of a trial; returns why it failed, if it did."""
        index = trial.user_attrs[INDEX]
        folder = trial_folder(self.work_dir, index)
        architecture = architecture.with_provenance(
            study=self.study.study_name, trial=index
        )
        begin = time.time()
        architecture.dump(osp.join(folder, ARCHITECTURE_FILE))
        try:
            state, failure = self._attempt(trial, architecture, folder)
        except optuna.exceptions.UpdateFinishedTrialError:
            self.tell(f'trial {index}: another worker has taken it over')
            return None
        rewards = trial.user_attrs.get(REWARDS, [])
        value = rewards[-1] if state == COMPLETE else None
        if state == PRUNED:
            stopped = self._trials()[trial.number]
            value = stopped.intermediate_values[stopped.last_step]
        words = {COMPLETE: 'complete', PRUNED: 'pruned', FAIL: 'failed'}
        write_result(
            folder,
            index=index,
            number=trial.number,
            state=words[state],
            rewards=rewards,
            failure=failure and str(failure),
            ended=datetime.datetime.now().isoformat(timespec='seconds'),
            seconds=round(time.time() - begin, 1),
            value=value,
        )
        self.study.tell(
            trial,
            value if state == COMPLETE else None,  # Or Optuna takes the last.
            state=state,
            skip_if_finished=True,
        )
        said = str(failure or '') or ', then '.join(
            f'{r:.5g}' for r in rewards
        )
        self.tell(f'trial {index} {words[state]}: {said} | {self._progress()}')
        return failure

    def _attempt(self, trial, architecture, folder):
        """Train all stages of a trial; returns its state, why it failed."""
        try:
            with beating(self.study, trial.number, self.storage):
                self._train_stages(trial, architecture, folder)
        except optuna.TrialPruned:
            return PRUNED, None
        except proxy.TrialFailed as error:
            trial.set_user_attr(FAILURE, str(error))
            return FAIL, error
        return COMPLETE, None

    def _train_stages(self, trial, architecture, folder):
        if (twin := trial.user_attrs.get(TWIN)) is not None:
            raise Refused(f'it has the architecture of trial {twin}')
        settings, rewards = self.settings, trial.user_attrs.get(REWARDS, [])
        factor = reward_factor(
            self.cfg.model, architecture, settings.limit, settings.penalty
        )
        for number, stage in enumerate(settings.stages):
            if number < len(rewards):
                continue  # Done by an earlier attempt.
            if number and not self._is_among_best(trial, rewards, stage):
                break
            cfg = proxy.stage_config(
                self.cfg, architecture, stage, settings.seed, self.work_dir
            )
            stage_folder = osp.join(folder, f'stage_{number}')
            if number and stage.get('warm_start'):
                cfg.load_from = proxy.last_checkpoint(
                    osp.join(folder, f'stage_{number - 1}')
                )
            asked = not number or hasattr(self.study.pruner, 'every_stage')

            def report(step, values, before=number * STAGE_STEPS, asked=asked):
                value = factor * proxy.reward(values, settings.reward)
                if asked:
                    trial.report(value, before + step)
                    if trial.should_prune():
                        raise optuna.TrialPruned

            values = self._train(trial, cfg, stage_folder, report)
            value = factor * proxy.reward(values, settings.reward)
            rewards = [*rewards, value]
            trial.set_user_attr(REWARDS, rewards)

    def _train(self, trial, cfg, folder, report):
        """Train, behind a lost worker's training that may still be there."""
        while True:
            try:
                return self.train(cfg, folder, report, held=[self.lock])
            except Occupied as error:
                if self.stopping:
                    raise
                self.tell(f'trial {trial.user_attrs[INDEX]} waits: {error}')
                time.sleep(WAIT)

    def _is_among_best(self, trial, rewards, stage):
        """Whether its last reward is in the best share of all at its stage."""
        place, own = len(rewards) - 1, trial.user_attrs[INDEX]
        others = {
            index_of(t): t.user_attrs[REWARDS][place]
            for t in self._trials()
            if len(t.user_attrs.get(REWARDS, [])) > place
            and index_of(t) != own
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
            text += f', best {best.value:.5g} (trial {index_of(best)})'
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
