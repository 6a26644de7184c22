"""Time and memory of functions, each case in a process of its own."""

import contextlib
import ctypes
import gc
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Union

import torch

MIB = 2**20


class PeakMemory:
    """Peak memory of functions, above what is in use when this is made.

    On a GPU it is that of the tensors, as PyTorch's allocator counts them; on
    the CPU that of the process, as Linux counts it. Elsewhere the operating
    system tells only the peak since the process began, which is then an upper
    bound.

    Args:
        device (str | torch.device): Where the functions compute.

    Attributes:
        base (int): Bytes in use when this was made.
    """

    def __init__(self, device: Union[str, torch.device]) -> None:
        self.device = torch.device(device)
        self.base = self._in_use()

    def now(self) -> int:
        """What is in use, in bytes above ``base``."""
        return max(self._in_use() - self.base, 0)

    def of(self, function: Callable) -> int:
        """Call the function; returns its peak, in bytes above ``base``."""
        self.start()
        function()
        return max(self.read() - self.base, 0)

    def start(self) -> None:
        """Begin to watch for a peak."""
        self._settle()
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        # The kernel's mark only rises, unless it is told to start anew.
        with (
            contextlib.suppress(OSError),
            open('/proc/self/clear_refs', 'w') as file,
        ):
            file.write('5')

    def read(self) -> int:
        """The peak since the start, in bytes, with ``base``."""
        if self.device.type == 'cuda':
            synchronize(self.device)
            return torch.cuda.max_memory_allocated(self.device)
        return _process_memory('VmHWM')

    def _in_use(self) -> int:
        self._settle()
        if self.device.type == 'cuda':
            return torch.cuda.memory_allocated(self.device)
        return _process_memory('VmRSS')

    def _settle(self) -> None:
        gc.collect()
        if self.device.type == 'cuda':
            synchronize(self.device)
            return
        # What was freed is not always given back; glibc does so when asked.
        with contextlib.suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


def _process_memory(key: str) -> int:
    """``VmRSS`` or ``VmHWM``, the latest or the highest, in bytes."""
    try:
        with open('/proc/self/status') as file:
            for line in file:
                if line.startswith(f'{key}:'):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource  # Not on Windows.

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def seconds(function: Callable, device: torch.device) -> float:
    """The time that a function takes."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def isolated(function: Callable, *args, **kwargs) -> dict:
    """Call a function of a module in a fresh process.

    Returns:
        dict: What the function returns; if it runs out of memory, or is
        killed, a dict with the key ``error`` alone.

    Raises:
        Exception: Any other that the function raises.
    """
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        try:
            return pool.submit(guarded, function, args, kwargs).result()
        except BrokenProcessPool:
            return dict(error='killed')


def guarded(function: Callable, args: tuple, kwargs: dict) -> dict:
    """Call a function; that memory runs out is a result, too."""
    try:
        return function(*args, **kwargs)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or (
            "can't allocate memory" in str(error)
        ):
            return dict(error='out of memory')
        raise
