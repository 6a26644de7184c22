"""Time and memory of models: what the benchmarks share.

Each case is measured in a process of its own (:func:`isolated`), since the
memory that one case leaves behind would hide the peak of the next. So what is
measured is a function of this module, which a fresh process can import.
"""

import contextlib
import ctypes
import datetime
import gc
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Optional, Union

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmengine.utils import import_modules_from_strings
from mmseg.registry import HOOKS, MODELS
from mmseg.structures import SegDataSample
from torch import nn

from ..engine import ArchSearchHook
from ..errors import UserError, one_line
from ..models.layers import NotCompiledWarning
from .complexity import count_multiply_adds, count_parameters

MIB = 2**20
HALVES = ('weights', 'arch')
DTYPES = dict(fp16=torch.float16, bf16=torch.bfloat16)


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
            return pool.submit(_call, function, args, kwargs).result()
        except BrokenProcessPool:
            return dict(error='killed')


def _call(function: Callable, args: tuple, kwargs: dict) -> dict:
    try:
        return function(*args, **kwargs)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or (
            "can't allocate memory" in str(error)
        ):
            return dict(error='out of memory')
        raise


def measure_search(
    cfg: Config,
    crop: int,
    batch: int,
    halves: Sequence[str],
    device: str,
    iters: int,
    warmup: int,
    threads: Optional[int] = None,
    channels_last: bool = False,
) -> dict:
    """Measure iterations of a search on random images.

    The weight half is the model's ``train_step``, the architecture half the
    step of the config's ``ArchSearchHook``; they take turns, as in a search.
    One iteration more, after those that are timed, is for the memory.

    Args:
        cfg (Config): Config of a search.
        crop (int): Height and width of the images.
        batch (int): Images per batch.
        halves (Sequence[str]): ``'weights'``, ``'arch'`` or both.
        device (str): Where to compute.
        iters (int): Iterations to time.
        warmup (int): Iterations before those.
        threads (int, optional): Of PyTorch on the CPU.
        channels_last (bool): Memory format of the model.

    Returns:
        dict: ``seconds``, a list per half; ``built``, the memory of the built
        model in bytes; above it ``state``, what stays between iterations
        (momentum), and ``peak`` per half.

    Raises:
        UserError: The config asks for compiled cells, and they cannot be
            compiled: in a search they would go on without.
    """
    device = _start(cfg, device, threads)
    model = build_model(cfg).to(device).train()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    hook = HOOKS.build(search_hook(cfg))
    hook.prepare(model, optim_wrapper)
    data = random_batch(batch, crop, model.num_classes)
    step = dict(
        weights=lambda: model.train_step(data, optim_wrapper),
        arch=lambda: hook.step(model, optim_wrapper, data),
    )

    memory = PeakMemory(device)
    times = {half: [] for half in halves}
    with _compile_errors():
        for _ in range(warmup):
            for half in halves:
                step[half]()
        for _ in range(iters):
            for half in halves:
                times[half].append(seconds(step[half], device))
        state = memory.now()
        peak = {half: memory.of(step[half]) for half in halves}
    return dict(seconds=times, built=memory.base, state=state, peak=peak)


def measure_inference(
    cfg: Config,
    shape: Sequence[int],
    batch: int,
    device: str,
    iters: int,
    warmup: int,
    threads: Optional[int] = None,
    amp: str = 'none',
) -> dict:
    """Measure the forward pass of a segmentor, up to its logits.

    Args:
        cfg (Config): Config with a ``model``.
        shape (Sequence[int]): Height and width of the images.
        batch (int): Images per batch.
        device (str): Where to compute.
        iters (int): Passes to time.
        warmup (int): Passes before those.
        threads (int, optional): Of PyTorch on the CPU.
        amp (str): ``'none'``, or the type of mixed precision, ``'fp16'`` or
            ``'bf16'``.

    Returns:
        dict: ``seconds``, a list; ``peak``, bytes above the memory of the
        built model; ``built``, that memory; ``parameters``, without those of
        auxiliary heads; ``multiply_adds`` of the convolutions, for one image.
    """
    device = _start(cfg, device, threads)
    model = build_model(cfg).to(device).eval()
    image = torch.randn(batch, 3, *shape, device=device)

    @torch.no_grad()
    def step():
        with torch.autocast(
            device.type, DTYPES.get(amp), enabled=amp != 'none'
        ):
            model(image, mode='tensor')

    memory = PeakMemory(device)
    for _ in range(warmup):
        step()
    times = [seconds(step, device) for _ in range(iters)]
    peak = memory.of(step)
    return dict(
        seconds=times,
        peak=peak,
        built=memory.base,
        parameters=count_parameters(model)[0],
        # Last: it moves the model off the device.
        multiply_adds=count_multiply_adds(model, *shape),
    )


def _start(cfg: Config, device: str, threads: Optional[int]) -> torch.device:
    """What a fresh process needs before it builds the model of a config."""
    _silence()
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    return torch.device(device)


def _silence() -> None:
    # What libraries say in every process would bury the table.
    warnings.simplefilter('ignore')
    MMLogger.get_current_instance().setLevel('ERROR')


def build_model(cfg: Config) -> nn.Module:
    """The segmentor of a config, for one process, without pretraining."""
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    return revert_sync_batchnorm(MODELS.build(cfg.model))


def search_hook(cfg: Config) -> dict:
    """The config of the ``ArchSearchHook`` in the config of a search.

    Raises:
        UserError: There is none.
    """
    for hook in cfg.get('custom_hooks') or []:
        kind = hook['type']
        if isinstance(kind, str):
            kind = HOOKS.get(kind)
        if isinstance(kind, type) and issubclass(kind, ArchSearchHook):
            # The priority is the runner's, not an argument of the hook.
            return {k: v for k, v in hook.items() if k != 'priority'}
    raise UserError(
        f'the config {cfg.filename} is not one of a search, since its '
        'custom_hooks have no ArchSearchHook'
    )


def random_batch(batch: int, crop: int, num_classes: int) -> dict:
    """Random images and labels, as a data loader collates them."""
    samples = []
    for _ in range(batch):
        labels = torch.randint(num_classes, (1, crop, crop))
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=labels)))
    images = [
        torch.randint(256, (3, crop, crop), dtype=torch.uint8)
        for _ in range(batch)
    ]
    return dict(inputs=images, data_samples=samples)


@contextlib.contextmanager
def _compile_errors():
    with warnings.catch_warnings():
        warnings.simplefilter('error', NotCompiledWarning)
        try:
            yield
        except NotCompiledWarning as warning:
            raise UserError(
                'torch.compile fails on this model '
                f'({one_line(warning.__context__)}); leave out --compile, '
                'or the compile_cfg of its backbone'
            ) from warning


def check_device(device: Optional[str]) -> str:
    """The device of an option, or by default the GPU, else the CPU.

    Raises:
        UserError: It is a GPU, and there is none.
    """
    if device is None:
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    if device == 'cuda' and not torch.cuda.is_available():
        raise UserError(
            '--device cuda needs a GPU that PyTorch can use, and none is '
            'available'
        )
    return device


def environment(device: str) -> dict:
    """What the numbers hold for: device, threads, versions and date."""
    found = dict(
        device=torch.cuda.get_device_name()
        if device == 'cuda'
        else _processor(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        date=datetime.date.today().isoformat(),
    )
    if device == 'cuda':
        found['cuda'] = torch.version.cuda
    return found


def _processor() -> str:
    with contextlib.suppress(OSError), open('/proc/cpuinfo') as file:
        for line in file:
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def describe(found: dict) -> str:
    """One line for an :func:`environment`."""
    return (
        ', '.join(
            value if key == 'device' else f'{key} {value}'
            for key, value in found.items()
            if key != 'date'
        )
        + f' ({found["date"]})'
    )


def spread(samples: Sequence[float]) -> dict:
    """Median, minimum and maximum of times."""
    return dict(
        seconds=statistics.median(samples),
        seconds_min=min(samples),
        seconds_max=max(samples),
    )


def table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table in Markdown, with columns that are aligned as text, too.

    Args:
        header (Sequence[str]): Names of the columns.
        rows (Iterable[Sequence]): Cells; ``None`` is empty. A column is
            aligned to the right if its cells begin with digits.
    """
    rows = [['' if c is None else str(c) for c in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(header, *rows)]
    right = [
        any(cell[:1].isdigit() for cell in column) for column in zip(*rows)
    ]

    def line(cells):
        return '| {} |'.format(
            ' | '.join(
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(cells, widths, right)
            )
        )

    rule = [
        '-' * (width - 1) + (':' if to_right else '-')
        for width, to_right in zip(widths, right)
    ]
    return '\n'.join(map(line, [header, rule, *rows]))
