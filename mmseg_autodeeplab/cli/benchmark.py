"""What the benchmarks measure: searches and networks, on random images.

Each case is measured in a process of its own (:func:`.measurement.isolated`),
since the memory that one case leaves behind would hide the peak of the next.
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
from ..search.hook_config import search_hook_config
from .measurement import measure

HALVES = ('weights', 'arch')
DTYPES = dict(fp16=torch.float16, bf16=torch.bfloat16)


def measure_search(
    cfg: Config,
    crop: int,
    batch: int,
    halves: Sequence[str],
    device: str,
    threads: Optional[int] = None,
    channels_last: bool = False,
    **timing: int,
) -> dict:
    """Measure iterations of a search, on images of ``crop`` x ``crop``.

    The weight step is the model's ``train_step``, the architecture step that
    of the config's ``ArchSearchHook``; they take turns, as in a search.

    Returns:
        dict: What :func:`.measurement.measure` returns, by half.
    """
    model = _start(cfg, device, threads).train()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    hook = HOOKS.build(search_hook(cfg))
    arch_step = hook.build_step(model, optim_wrapper)
    data = random_batch(batch, crop, model.num_classes)
    steps = dict(
        weights=lambda: model.train_step(data, optim_wrapper),
        arch=lambda: arch_step.step(data),
    )
    return measure({half: steps[half] for half in halves}, device, **timing)


def measure_inference(
    cfg: Config,
    shape: Sequence[int],
    batch: int,
    device: str,
    threads: Optional[int] = None,
    amp: str = 'none',
    **timing: int,
) -> dict:
    """Measure the forward pass of a segmentor, up to its logits.

    Returns:
        dict: What :func:`.measurement.measure` returns of it; ``parameters``,
        without those of auxiliary heads; ``multiply_adds`` of the
        convolutions, for one image.
    """
    model = _start(cfg, device, threads).eval()
    image = torch.randn(batch, 3, *shape, device=device)

    @torch.no_grad()
    @torch.autocast(device, DTYPES.get(amp), enabled=amp != 'none')
    def step():
        model(image, mode='tensor')

    return dict(
        measure(dict(forward=step), device, **timing)['forward'],
        parameters=count_parameters(model)[0],
        # Last: it moves the model off the device.
        multiply_adds=count_multiply_adds(model, *shape),
    )


def _start(cfg, device, threads):
    """Build the model of a config in a fresh process."""
    # What libraries say in every process would bury the table.
    warnings.simplefilter('ignore')
    MMLogger.get_current_instance().setLevel('ERROR')
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    return build_model(cfg).to(device)


def build_model(cfg: Config) -> nn.Module:
    """The segmentor of a config, for one process, without pretraining."""
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    return revert_sync_batchnorm(MODELS.build(cfg.model))


def search_hook(cfg: Config) -> dict:
    """The config of the ``ArchSearchHook`` that a search must have."""
    hook = search_hook_config(cfg)
    if hook is None:
        raise UserError(
            f'the config {cfg.filename} is not one of a search, since its '
            'hooks have no ArchSearchHook'
        )
    # The priority is the runner's, not an argument of the hook.
    return {key: hook[key] for key in hook if key != 'priority'}


def random_batch(batch: int, crop: int, num_classes: int) -> dict:
    """Random images and labels, as a data loader collates them."""
    labels = torch.randint(num_classes, (batch, 1, crop, crop))
    images = torch.randint(256, (batch, 3, crop, crop), dtype=torch.uint8)
    return dict(
        inputs=list(images),
        data_samples=[
            SegDataSample(gt_sem_seg=PixelData(data=data)) for data in labels
        ],
    )


def check_device(device: Optional[str]) -> str:
    """The device of an option, or by default the GPU, else the CPU."""
    if device == 'cuda' and not torch.cuda.is_available():
        raise UserError(
            '--device cuda needs a GPU that PyTorch can use, and none is '
            'available'
        )
    return device or ('cuda' if torch.cuda.is_available() else 'cpu')
