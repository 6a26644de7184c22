"""Tools in processes of their own, which end with the one that starts them."""

import ctypes
import os
import os.path as osp
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Optional

import torch

from ..files import to_json
from .history import read_json_lines
from .retrain_config import ROOT

POLL = 1.0  # seconds between two looks at what a process does
PAUSE = 0.05  # seconds between two looks whether it has ended
PATIENCE = 10  # seconds that a process has to end
TIMES_FILE = 'processor_time.jsonl'


class ProcessFailed(Exception):
    """A process ended with an error; the sentence says which."""

    def __init__(self, sentence: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.status = status


_dealt = threading.local()  # To a thread: an environment.


def environments(number: int) -> list[dict]:
    """Those of processes side by side, each of which sees one of the GPUs."""
    gpus = os.environ.get('CUDA_VISIBLE_DEVICES')
    gpus = gpus.split(',') if gpus else range(torch.cuda.device_count())
    return [
        dict(os.environ, CUDA_VISIBLE_DEVICES=str(gpus[i % len(gpus)]))
        if gpus
        else dict(os.environ)
        for i in range(number)
    ]


def side_by_side(number: int) -> ThreadPoolExecutor:
    """Threads that :func:`run` processes, among which the GPUs are dealt."""
    left = environments(number)

    def begin():
        _dealt.environment = left.pop()

    return ThreadPoolExecutor(number, initializer=begin)


def tool(name: str) -> tuple[str, str]:
    """The command of a tool, before its arguments."""
    return sys.executable, str(ROOT / 'tools' / f'{name}.py')


def run(
    command: Sequence[str],
    folder: str,
    watch: Callable[[], None] = lambda: None,
    held: Sequence[int] = (),
) -> None:
    """Run a command to its end.

    What it prints is added to ``output.txt`` in a folder, which is made, and
    what it takes to what :func:`processor_time` reads.

    Args:
        watch (Callable): Called every now and then, and after the end; what
            it raises ends the process.
        held (Sequence[int]): Descriptors that the process is to hold, too.

    Raises:
        ProcessFailed: Its exit status is not 0.
    """
    os.makedirs(folder, exist_ok=True)
    times = osp.join(folder, TIMES_FILE)
    with open(osp.join(folder, 'output.txt'), 'ab') as output:
        begin = output.tell()
        _append(times, begun=time.time())
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C is for the parent, which decides.
            start_new_session=True,
            pass_fds=held,
            env=getattr(_dealt, 'environment', None),
            preexec_fn=end_with_parent(),
        )
    seconds = None
    try:
        while seconds is None:
            seconds = _wait(process, POLL)
            watch()
    finally:
        if seconds is None:
            seconds = _end(process)
        _append(times, seconds=seconds)
    if process.returncode:
        words = _last_words(output.name, begin, process.returncode)
        raise ProcessFailed(words, process.returncode)


def processor_time(folder: str) -> Optional[float]:
    """Seconds that all runs in a folder took, with their own processes.

    It is the time of processors, not that of a clock, which others slow down.
    None where a run was killed together with its parent, so that nobody knows.
    """
    lines = read_json_lines(osp.join(folder, TIMES_FILE))
    seconds = [line['seconds'] for line in lines if 'seconds' in line]
    return sum(seconds) if 2 * len(seconds) == len(lines) else None


def end_with_parent() -> Callable[[], None]:
    """What a new process calls, so that Linux kills it with its parent."""
    parent, prctl = os.getpid(), None
    if sys.platform == 'linux':
        prctl = ctypes.CDLL(None).prctl

    def ask():
        if prctl:
            prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:
                os._exit(1)

    return ask


def _append(file, **line):
    with open(file, 'a') as f:
        f.write(f'\n{to_json(line)}\n')


def _wait(process, seconds):
    """Wait for the end, but not longer; returns the processor time it took."""
    until = time.monotonic() + seconds
    while True:
        # Popen's own does not tell what was used.
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_utime + usage.ru_stime
        if time.monotonic() >= until:
            return None
        time.sleep(PAUSE)


def _end(process):
    """Ask a process to end, and kill it where it does not."""
    # Popen's own would wait for one that has just ended, as `_wait` is to.
    os.kill(process.pid, signal.SIGTERM)
    seconds = _wait(process, PATIENCE)
    if seconds is None:
        os.kill(process.pid, signal.SIGKILL)
        while seconds is None:
            seconds = _wait(process, PATIENCE)
    return seconds


def _last_words(file, begin, status):
    with open(file, encoding='utf-8', errors='replace') as f:
        f.seek(begin)
        lines = [line.strip() for line in f if line.strip()]
    errors = [line for line in lines if re.match(r'[\w.]*Error\b', line)]
    if status < 0 and not errors:
        return f'the process was ended by {signal.Signals(-status).name}'
    words = (errors or lines or [f'exit status {status}'])[-1]
    return textwrap.shorten(words.removeprefix('Error: '), 300)
