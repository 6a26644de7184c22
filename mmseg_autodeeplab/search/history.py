"""The alphas and betas of a search over time: a file of one line per time."""

import datetime
import json
import os
import os.path as osp
from collections import Counter
from typing import Any, NamedTuple

import mmcv
import mmengine
import mmseg
import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.runner import Runner

from ..arch import AutoDeepLabArchitecture, decode
from ..version import __version__

ARCHITECTURE_FILE = 'architecture.json'
HISTORY_FILE = 'arch_history.jsonl'


class Record(NamedTuple):
    """What stood in one line.

    Attributes:
        iteration (int): Iterations that were done.
        alphas (np.ndarray): Shape (edges, 8), before the softmax.
        betas (np.ndarray): Shape (L, 4, 3), before the softmax.
        notes (dict): All else.
    """

    iteration: int
    alphas: np.ndarray
    betas: np.ndarray
    notes: dict

    @property
    def architecture(self) -> AutoDeepLabArchitecture:
        """What they decode to."""
        return decode(self.alphas, self.betas)


def append_record(
    work_dir: str,
    iteration: int,
    alphas: np.ndarray,
    betas: np.ndarray,
    **notes: Any,
) -> None:
    """Add a line to the history of a search.

    Args:
        work_dir (str): Where the file is, or will be.
        iteration (int): Iterations that are done.
        alphas (np.ndarray): Shape (edges, 8), before the softmax.
        betas (np.ndarray): Shape (L, 4, 3), before the softmax.
        **notes: More to remember, JSON-like.
    """
    values = dict(
        iteration=iteration,
        # About as much as the parameters, float32 around 1, hold.
        alphas=alphas.astype(float).round(8).tolist(),
        betas=betas.astype(float).round(8).tolist(),
        **notes,
    )
    # A killed process may have left half a line; this one is not to join it.
    with open(osp.join(work_dir, HISTORY_FILE), 'a') as f:
        f.write(f'\n{json.dumps(values)}\n')


def read_history(work_dir: str) -> list[Record]:
    """Read the history of a search, of any number of resumed runs.

    A line that is torn is left out, and so is what a search went through
    after the iteration from which it was resumed.

    Args:
        work_dir (str): Where the file is.

    Returns:
        list[Record]: In order of iterations; empty where there is no file.
    """
    records: list[Record] = []
    for line in read_json_lines(osp.join(work_dir, HISTORY_FILE)):
        if not line.keys() >= {'iteration', 'alphas', 'betas'}:
            continue
        iteration = line.pop('iteration')
        while records and records[-1].iteration >= iteration:
            records.pop()
        arrays = (np.array(line.pop(name)) for name in ('alphas', 'betas'))
        records.append(Record(iteration, *arrays, line))
    return records


def count_changes(
    before: AutoDeepLabArchitecture, after: AutoDeepLabArchitecture
) -> tuple[int, int]:
    """How many choices of one architecture are others in another.

    Args:
        before (AutoDeepLabArchitecture): The one.
        after (AutoDeepLabArchitecture): The other, of as many blocks and
            layers.

    Returns:
        tuple[int, int]: Connections that their blocks did not have, whatever
        the order of a pair, and layers at another downsample rate.
    """
    connections = sum(
        sum((Counter(new) - Counter(old)).values())
        for old, new in zip(before.cell, after.cell)
    )
    layers = sum(a != b for a, b in zip(before.path, after.path))
    return connections, layers


def library_versions() -> dict[str, str]:
    """Of this package and what it builds on, for the notes of a record."""
    libraries = (torch, mmengine, mmcv, mmseg)
    versions = {library.__name__: library.__version__ for library in libraries}
    return dict(mmseg_autodeeplab=__version__, **versions)


@master_only
def set_aside(runner: Runner) -> None:
    """Rename the architecture of an earlier search in the work directory."""
    file = osp.join(runner.work_dir, ARCHITECTURE_FILE)
    if osp.exists(file):
        written = datetime.datetime.fromtimestamp(osp.getmtime(file))
        aside = file.replace('.json', f'_{written:%Y%m%d_%H%M%S}.json')
        os.rename(file, aside)
        runner.logger.info(
            f'The {ARCHITECTURE_FILE} of an earlier search is now {aside}.'
        )


def read_json_lines(file: str) -> list[dict]:
    """Read a file of one JSON object per line, without what is torn.

    Args:
        file (str): The file; it need not exist.

    Returns:
        list[dict]: The objects.
    """
    if not osp.exists(file):
        return []
    lines = []
    with open(file, encoding='utf-8') as f:
        for text in f:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                lines.append(line)
    return lines
