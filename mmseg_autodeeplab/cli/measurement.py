"""Time and memory of functions, where they were measured, and tables of it."""

import ctypes
import datetime
import gc
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import torch
from prettytable import PrettyTable, TableStyle

MIB = 2**20


def settled_memory(device: torch.device) -> int:
    """Bytes in use without garbage; a new peak begins here.

    On a GPU they are those of the tensors, as PyTorch's allocator counts
    them; on the CPU those of the process, as Linux counts them.
    """
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    else:
        # glibc gives back what was freed when it is asked to, and the
        # kernel's mark only rises, unless it is told to start anew.
        ctypes.CDLL(None).malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')
    return _memory(device, 'current', 'VmRSS')


def peak_memory(device: torch.device) -> int:
    """The most bytes in use since :func:`settled_memory`."""
    return _memory(device, 'peak', 'VmHWM')


def _memory(device, of_tensors, of_process):
    if device.type == 'cuda':
        key = f'allocated_bytes.all.{of_tensors}'
        return torch.cuda.memory_stats(device).get(key, 0)
    status = Path('/proc/self/status').read_text()
    return 1024 * int(re.search(rf'{of_process}:\s*(\d+) kB', status)[1])


def measure(
    steps: dict[str, Callable], device: torch.device, iters: int, warmup: int
) -> dict:
    """Measure functions that take turns.

    One iteration more, after those that are timed, is for the memory.

    Returns:
        dict: ``seconds``, a list per function; ``built``, the memory in use
        before, in bytes; above it ``state``, what stays between iterations,
        and ``peak`` per function.
    """
    wait = getattr(torch, device.type).synchronize  # For nothing on a CPU.
    times = {name: [] for name in steps}
    built = settled_memory(device)
    for _ in range(warmup + iters):
        for name, step in steps.items():
            wait()
            start = time.perf_counter()
            step()
            wait()
            times[name].append(time.perf_counter() - start)
    state = settled_memory(device)
    peak = {}
    for name, step in steps.items():
        settled_memory(device)
        step()
        peak[name] = max(peak_memory(device) - built, 0)
    return dict(
        seconds={name: times[name][warmup:] for name in steps},
        built=built,
        state=max(state - built, 0),
        peak=peak,
    )


def isolated(function: Callable, *args, **kwargs) -> dict:
    """Call a function of a module in a fresh process.

    Returns:
        dict: What the function returns; if it runs out of memory, or is
        killed, a dict with the key ``error`` alone.
    """
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool:
            return dict(error='killed')
        except (MemoryError, RuntimeError) as error:
            kinds = (MemoryError, torch.cuda.OutOfMemoryError)
            if isinstance(error, kinds) or (
                "can't allocate memory" in str(error)
            ):
                return dict(error='out of memory')
            raise


def environment(device: str) -> dict:
    """What the numbers hold for: device, threads, versions and date."""
    if device == 'cuda':
        own = dict(
            device=torch.cuda.get_device_name(), cuda=torch.version.cuda
        )
    else:
        cpus = Path('/proc/cpuinfo').read_text()
        names = re.findall('model name.*: (.*)', cpus)
        own = dict(device=[*names, platform.machine()][0])
    return dict(
        own,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        date=datetime.date.today().isoformat(),
    )


def spread(samples: Sequence[float]) -> dict:
    """Median, minimum and maximum of times."""
    return dict(
        seconds=statistics.median(samples),
        seconds_min=min(samples),
        seconds_max=max(samples),
    )


def table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table in Markdown; a cell that is ``None`` is empty."""
    text = PrettyTable(header, align='r')
    text.set_style(TableStyle.MARKDOWN)
    text.add_rows([['' if c is None else c for c in row] for row in rows])
    return text.get_string()
