"""The alphas and betas of a search over time: a file of one line per time."""

import contextlib
import json
import os.path as osp
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from ..arch import AutoDeepLabArchitecture, decode
from ..files import open_text, to_json

ARCHITECTURE_FILE = 'architecture.json'
HISTORY_FILE = 'arch_history.jsonl'


class Record(NamedTuple):
    """What stood in one line, with parameters before the softmax."""

    iteration: int  # done by then
    alphas: np.ndarray  # (edges, primitives)
    betas: np.ndarray  # (L, 4, 3)
    notes: dict  # all else


def append_record(
    work_dir: str,
    iteration: int,
    alphas: np.ndarray,
    betas: np.ndarray,
    **notes: Any,
) -> None:
    """Add a line, a :class:`Record`, to the history of a search."""
    values = dict(
        iteration=iteration,
        # About as much as the parameters, float32 around 1, hold.
        alphas=alphas.astype(float).round(8).tolist(),
        betas=betas.astype(float).round(8).tolist(),
        **notes,
    )
    # A killed process may have left half a line; this one is not to join it.
    with open(osp.join(work_dir, HISTORY_FILE), 'a') as f:
        f.write(f'\n{to_json(values)}\n')


def read_history(work_dir: str) -> list[Record]:
    """Read the history of a search, of any number of resumed runs.

    A line that is torn, or no record of the search that the last one is of,
    is left out, and so is what a search went through after the iteration from
    which it was resumed. Raises an OSError where the file cannot be read.
    """
    records: list[Record] = []
    for line in read_json_lines(osp.join(work_dir, HISTORY_FILE)):
        try:
            iteration = line.pop('iteration')
            arrays = [
                np.array(line.pop(name), dtype=float)
                for name in ('alphas', 'betas')
            ]
            decode(*arrays)
        except (LookupError, ValueError, TypeError, OverflowError):
            continue
        if not is_number(iteration):
            continue
        while records and records[-1].iteration >= iteration:
            records.pop()
        records.append(Record(iteration, *arrays, line))
    return [
        record
        for record in records
        if (record.alphas.shape, record.betas.shape)
        == (records[-1].alphas.shape, records[-1].betas.shape)
    ]


def read_json_lines(file: str) -> list[dict]:
    """Read the objects of a file of one per line, without what is torn.

    Raises an OSError where there is a file that cannot be read.
    """
    lines = []
    if osp.lexists(file):
        with open_text(file, errors='replace') as f:
            for text in f:
                with contextlib.suppress(ValueError, RecursionError):
                    lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict)]


def is_number(value: Any) -> bool:
    """Whether it is a number that a search logs, and not a damaged one."""
    return type(value) in (int, float) and abs(value) < 1e30


def count_changes(
    before: AutoDeepLabArchitecture, after: AutoDeepLabArchitecture
) -> tuple[int, int]:
    """Count connections that are new to their blocks, and layers that moved.

    The order of a pair is no choice.
    """
    connections = sum(
        sum((Counter(new) - Counter(old)).values())
        for old, new in zip(before.cell, after.cell)
    )
    return connections, sum(a != b for a, b in zip(before.path, after.path))
