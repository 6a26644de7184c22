"""What the trials of a study have left in its work directory."""

import glob
import json
import os.path as osp
from typing import Any, NamedTuple, Optional

from ...arch import Architecture
from ...files import to_json, write_atomically
from ..history import ARCHITECTURE_FILE

REWARD_FILE = 'reward.json'
CONFIG_FILE = 'search_config.py'


class Result(NamedTuple):
    """What is in the folder of an ended trial."""

    folder: str
    architecture: Architecture
    index: int  # of the trial, from 0 on
    number: int  # of its last attempt, in Optuna's storage
    state: str  # 'complete', 'pruned' or 'failed'
    rewards: list[float]  # per stage
    failure: Optional[str]  # a sentence
    ended: str  # date and time
    seconds: float  # that the last attempt took

    @property
    def rank(self) -> tuple:
        """Sorts results: by stages gone through, then by the last reward."""
        return rank(self.rewards)


def rank(rewards: list[float]) -> tuple:
    """Sort rewards per stage: a later stage is for the better trials."""
    return len(rewards), *rewards[-1:]


def trial_folder(work_dir: str, index: int) -> str:
    """The folder of a trial."""
    return osp.join(work_dir, 'trials', f'{index:04d}')


def write_result(folder: str, **values: Any) -> None:
    """Write all of a :class:`Result` but its folder and architecture."""
    text = to_json(values, indent=2)
    write_atomically(osp.join(folder, REWARD_FILE), text + '\n')


def read_results(work_dir: str) -> list[Result]:
    """Read all trials that have ended, those that are complete, best first."""
    results = []
    for file in glob.glob(osp.join(work_dir, 'trials', '*', REWARD_FILE)):
        folder = osp.dirname(file)
        with open(file, encoding='utf-8') as f:
            values = json.load(f)
        architecture = Architecture.load(osp.join(folder, ARCHITECTURE_FILE))
        results.append(Result(folder, architecture, **values))
    results.sort(key=lambda result: result.index)
    results.sort(key=lambda r: (r.state == 'complete', r.rank), reverse=True)
    return results
