"""Time and memory of functions, where they were measured, and tables of it."""

import ctypes
import datetime
import gc
import math
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


def settled_memory(device: str) -> int:
    """Bytes in use without garbage; a new peak begins here.

    On a GPU they are those of the tensors, as PyTorch's allocator counts
    them, and what graphs keep to themselves; on the CPU those of the process,
    as Linux counts them.
    """
    gc.collect()
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    else:
        # glibc gives back what was freed when it is asked to, and the
        # kernel's mark only rises, unless it is told to start anew.
        ctypes.CDLL(None).malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')
    return _memory(device, 'current', 'VmRSS')


def peak_memory(device: str) -> int:
    """The most bytes in use since :func:`settled_memory`."""
    return _memory(device, 'peak', 'VmHWM')


def _memory(device, of_tensors, of_process):
    if device == 'cuda':
        # Free as the allocator counts, but of use to the next replay alone.
        kept = sum(
            segment['total_size'] - segment['allocated_size']
            for segment in torch.cuda.memory_snapshot()
            if any(segment['segment_pool_id'])
        )
        of_tensors = f'allocated_bytes.all.{of_tensors}'
        return torch.cuda.memory_stats()[of_tensors] + kept
    status = Path('/proc/self/status').read_text()
    return 1024 * int(re.search(rf'{of_process}:\s*(\d+) kB', status)[1])


def measure(
    steps: dict,
    device: str,
    iters: int,
    warmup: int,
    seconds: float = math.inf,
) -> dict:
    """Measure functions that take turns.

    So many ``seconds`` after the warm-up, the turns that are left are not
    taken, but for one.

    Returns:
        dict: Per function ``samples``, its times in seconds, and in bytes
        ``built``, the memory before, the ``peak`` above it, and ``working``,
        the part of the peak above what stays between the turns.
    """
    wait = getattr(torch, device).synchronize  # For nothing on a CPU.
    samples = {name: [] for name in steps}
    built = settled_memory(device)
    for turn in range(warmup + iters):
        if turn == warmup:
            began = time.perf_counter()
        elif turn > warmup and time.perf_counter() - began > seconds:
            break
        for name, step in steps.items():
            wait()
            start = time.perf_counter()
            step()
            wait()
            samples[name].append(time.perf_counter() - start)
    stays = settled_memory(device)
    found = {}
    for name, step in steps.items():
        settled_memory(device)
        step()
        peak = peak_memory(device)
        found[name] = dict(
            samples=samples[name][warmup:],
            built=built,
            peak=max(peak - built, 0),
            working=max(peak - stays, 0),
        )
    return found


def isolated(function: Callable, *args, **kwargs) -> dict:
    """Call a function of a module in a fresh process, with as many threads.

    Memory that is left behind would hide the peak of the next. If it runs out
    of memory, or is killed, the result has ``error`` alone.
    """
    spawn, threads = get_context('spawn'), (torch.get_num_threads(),)
    with ProcessPoolExecutor(1, spawn, torch.set_num_threads, threads) as pool:
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool:
            return dict(error='killed')
        except (MemoryError, RuntimeError) as error:
            # OutOfMemoryError of a GPU, and what PyTorch raises on the CPU.
            if re.search("MemoryError|can't allocate memory", repr(error)):
                return dict(error='out of memory')
            raise


def environment(device: str) -> dict:
    """What the numbers hold for: device, threads, versions and date."""
    cpus = re.findall('model name.*: (.*)', Path('/proc/cpuinfo').read_text())
    found = dict(
        device=[*cpus, platform.machine()][0],
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        date=datetime.date.today().isoformat(),
    )
    if device == 'cuda':
        found['device'] = torch.cuda.get_device_name()
        found['cuda'] = torch.version.cuda
    return found


def spread(samples: Sequence[float]) -> dict:
    """Times, and their median, minimum and maximum."""
    return dict(
        seconds=statistics.median(samples),
        seconds_min=min(samples),
        seconds_max=max(samples),
        samples=samples,
    )


def table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table in Markdown; a cell that is ``None`` is empty."""
    text = PrettyTable(header, align='r')
    text.set_style(TableStyle.MARKDOWN)
    text.add_rows([['' if c is None else c for c in row] for row in rows])
    return text.get_string()
