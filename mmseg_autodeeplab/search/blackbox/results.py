"""What the trials of a study have left in its work directory."""

import glob
import json
import os.path as osp
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from ...arch import Architecture
from ...errors import UserError, one_line
from ...files import open_text, to_json, write_atomically
from ..history import ARCHITECTURE_FILE, is_number

REWARD_FILE = 'reward.json'
CONFIG_FILE = 'search_config.py'
TRIALS_FOLDER = 'trials'


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
    # The last one; of a pruned trial, which earlier versions leave open, that
    # at which it was stopped.
    value: Optional[float] = None

    @property
    def numbers(self) -> list:
        """All that has to be one."""
        known = [] if self.value is None else [self.value]
        return [self.index, self.number, self.seconds, *self.rewards, *known]

    @property
    def rank(self) -> tuple:
        """Sorts results: by stages gone through, then by the last reward."""
        return rank(self.rewards)


def rank(rewards: list[float]) -> tuple:
    """Sort rewards per stage: a later stage is for the better trials."""
    return len(rewards), *rewards[-1:]


def trial_folder(work_dir: str, index: int) -> str:
    """The folder of a trial."""
    return osp.join(work_dir, TRIALS_FOLDER, f'{index:04d}')


def write_result(folder: str, **values: Any) -> None:
    """Write all of a :class:`Result` but its folder and architecture."""
    text = to_json(values, indent=2)
    write_atomically(osp.join(folder, REWARD_FILE), text + '\n')


def read_results(work_dir: str) -> list[Result]:
    """Read all trials that have ended, those that are complete, best first."""
    results = []
    folder = osp.join(glob.escape(work_dir), TRIALS_FOLDER)
    for file in glob.glob(osp.join(folder, '*', REWARD_FILE)):
        folder = osp.dirname(file)
        architecture = Architecture.load(osp.join(folder, ARCHITECTURE_FILE))
        results.append(_read(file, Result, folder, architecture))
    results.sort(key=lambda result: result.index)
    results.sort(key=lambda r: (r.state == 'complete', r.rank), reverse=True)
    return results


def _read(file, kind, *known):
    """What a file of numbers holds, of the types that its kind has."""
    try:
        with open_text(file) as f:
            found = kind(*known, **json.load(f))
        if not all(map(is_number, found.numbers)):
            raise ValueError('it has what is no number')
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f'{file} cannot be read as the result of a trial '
            f'({one_line(error)}): remove its folder, or restore the file'
        ) from error
    return found


class Reranked(NamedTuple):
    """What a trial came to when it was trained for longer."""

    trial: int
    proxy: float  # its reward in the search
    value: float  # the same metric at the end

    @property
    def numbers(self) -> list:
        """All that has to be one."""
        return list(self)


def read_reranked(work_dir: str) -> list[Reranked]:
    """Read what was trained for longer, from the best."""
    found = []
    for file in glob.glob(rerank_file(glob.escape(work_dir), '*')):
        found.append(_read(file, Reranked))
    return sorted(found, key=lambda reranked: -reranked.value)


def rerank_file(work_dir: str, index: Any) -> str:
    """The file of a :class:`Reranked`."""
    folder = osp.join(work_dir, 'reranked')
    name = index if isinstance(index, str) else f'{index:04d}'
    return osp.join(folder, name, REWARD_FILE)


def rank_correlation(first: Sequence, second: Sequence) -> float:
    """Spearman's rho: the correlation of ranks, of which ties share a mean.

    It is nan where all values on one side are the same.
    """
    ranks = []
    for values in (first, second):
        values = np.asarray(values, dtype=float)
        below = (values[:, None] > values).sum(1)
        ranks.append(below + ((values[:, None] == values).sum(1) + 1) / 2)
    first, second = (r - r.mean() for r in ranks)
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale else float('nan')
