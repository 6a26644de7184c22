"""Time and memory of searches and networks: what the benchmarks share.

Each case is measured in a process of its own (:func:`.measurement.isolated`),
since the memory that one case leaves behind would hide the peak of the next.
So what is measured is a function of this module, which a fresh process can
import.
"""

import warnings
from collections.abc import Sequence
from typing import Optional

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

from ..errors import UserError
from ..models.complexity import count_multiply_adds, count_parameters
from ..search.results import search_hook_config
from .measurement import PeakMemory, seconds

HALVES = ('weights', 'arch')
DTYPES = dict(fp16=torch.float16, bf16=torch.bfloat16)


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

    The weight step is the model's ``train_step``, the architecture step that
    of the config's ``ArchSearchHook``; they take turns, as in a search.
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
    """
    device = _start(cfg, device, threads)
    model = build_model(cfg).to(device).train()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    hook = HOOKS.build(search_hook(cfg))
    arch_step = hook.build_step(model, optim_wrapper)
    data = random_batch(batch, crop, model.num_classes)
    step = dict(
        weights=lambda: model.train_step(data, optim_wrapper),
        arch=lambda: arch_step.step(data),
    )

    memory = PeakMemory(device)
    times = {half: [] for half in halves}
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
    hook = search_hook_config(cfg)
    if hook is not None:
        # The priority is the runner's, not an argument of the hook.
        return {k: v for k, v in hook.items() if k != 'priority'}
    raise UserError(
        f'the config {cfg.filename} is not one of a search, since its '
        'hooks have no ArchSearchHook'
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
