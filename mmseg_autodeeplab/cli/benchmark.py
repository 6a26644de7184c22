"""What the benchmarks measure, on random images, and what it says.

A combination of a search's options is a dict of ``KEYS``; a row is one with a
``half`` and the numbers that come of what was measured.
"""

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
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
from ..models.complexity import (
    count_multiply_adds,
    count_parameters,
    image_channels,
)
from ..search.results import search_hook_config
from .measurement import measure, spread

DTYPES = dict(fp16=torch.float16, bf16=torch.bfloat16)
# The halves of an iteration, and their multiply-adds in forward passes.
HALVES = dict(weights=3, arch=2)
# What of a combination the backbone of a config has, and where.
BACKBONE_KEYS = dict(layers='num_layers', form='form', with_cp='with_cp')
# What a combination is made of, in the order of the columns.
KEYS = ('crop', 'batch', *BACKBONE_KEYS)
MEMORY = ('peak', 'working')
# What is compared with what: a key, its two values, the second's name.
COMPARED = (
    ('form', 'fused', 'reference', 'reference'),
    ('with_cp', 'on', 'off', 'with_cp off'),
    ('half', 'arch', 'weights', 'weights'),
)
FIT_CROP, FIT_BATCH = 321, 2


def measure_search(
    cfg: Config,
    crop: int,
    batch: int,
    halves: Sequence[str],
    device: str,
    channels_last: bool = False,
    **timing: float,
) -> dict:
    """Measure iterations of a search, on images of ``crop`` x ``crop``.

    Its steps take turns, as in a search; by half is what
    :func:`.measurement.measure` returns.
    """
    model, steps = search_steps(cfg, device, channels_last)
    channels = image_channels(cfg.model)
    data = random_batch(batch, crop, model.num_classes, channels)
    bound = {half: functools.partial(steps[half], data) for half in halves}
    return measure(bound, device, **timing)


def search_steps(
    cfg: Config, device: str, channels_last: bool = False
) -> tuple[nn.Module, dict[str, Callable]]:
    """The model of a search, in training, and its steps on a batch, by half.

    They are the model's ``train_step`` and that of ``ArchSearchHook``.
    """
    model = _start(cfg, device).train()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    arch_step = HOOKS.build(search_hook(cfg)).build_step(model, optim_wrapper)
    return model, dict(
        weights=lambda data: model.train_step(data, optim_wrapper),
        arch=arch_step.step,
    )


def measure_inference(
    cfg: Config,
    shape: Sequence[int],
    batch: int,
    device: str,
    amp: str = 'none',
    **timing: float,
) -> dict:
    """Measure the forward pass of a segmentor, up to its logits.

    Returned is what :func:`.measurement.measure` says of it, ``parameters``
    without those of auxiliary heads, and ``multiply_adds`` for one image.
    """
    model = _start(cfg, device).eval()
    shape = image_channels(cfg.model), *shape
    image = torch.randn(batch, *shape, device=device)

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


def _start(cfg, device):
    """Build the model of a config in a fresh process."""
    # What libraries say in every process would bury the table.
    warnings.simplefilter('ignore')
    MMLogger.get_current_instance().setLevel('ERROR')
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
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


def random_batch(
    batch: int, crop: int, num_classes: int, channels: int = 3
) -> dict:
    """Random images and labels, as a data loader collates them."""
    labels = torch.randint(num_classes, (batch, 1, crop, crop))
    shape = batch, channels, crop, crop
    images = torch.randint(256, shape, dtype=torch.uint8)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=one)) for one in labels]
    return dict(inputs=list(images), data_samples=samples)


def check_device(device: Optional[str]) -> str:
    """The device of an option, or by default the GPU, else the CPU."""
    if device == 'cuda' and not torch.cuda.is_available():
        raise UserError(
            '--device cuda needs a GPU that PyTorch can use, and none is '
            'available'
        )
    return device or ('cuda' if torch.cuda.is_available() else 'cpu')


def rows_of(case: dict, rounds: list, halves: list, forward: int) -> list:
    """The rows of a combination, one per half and one of both.

    A row has ``error`` and no numbers where a round has failed; ``forward`` is
    how many multiply-adds a forward pass has, for one image.
    """
    parts = {half: [half] for half in halves}
    if len(halves) > 1:
        parts['iteration'] = halves
    errors = [found for found in rounds if 'error' in found]
    if errors:
        return [dict(case, half=name, **errors[0]) for name in parts]
    forward *= case['batch']
    return [
        dict(case, half=name, **_numbers(rounds, part, forward))
        for name, part in parts.items()
    ]


def _numbers(rounds, halves, forward):
    """What was measured of these halves together, in all rounds."""
    found = [[one[half] for half in halves] for one in rounds]
    samples = [
        sum(turn)
        for one in found
        for turn in zip(*(half['samples'] for half in one))
    ]
    row = spread(samples)
    for key in ('built', *MEMORY):
        row[key] = max(half[key] for one in found for half in one)
    row['multiply_adds'] = forward * sum(map(HALVES.get, halves))
    row['multiply_adds_per_second'] = row['multiply_adds'] / row['seconds']
    return row


def compare(rows: Sequence[dict]) -> list[dict]:
    """Ratios ``time``, ``peak`` and ``working`` to rows with one other key.

    They stand beside the combination, the half, and ``relative_to``, and are
    None where there is nothing to divide by.
    """
    keys = (*KEYS, 'half')
    key_of = itemgetter(*keys)
    found = {key_of(row): row for row in rows if 'error' not in row}
    ratios = []
    for row in found.values():
        for key, first, second, label in COMPARED:
            other = found.get(key_of({**row, key: second}))
            if row[key] == first and other:
                ratio = dict(zip(keys, key_of(row)), relative_to=label)
                ratio['time'] = row['seconds'] / other['seconds']
                for name in MEMORY:
                    base = other[name]
                    ratio[name] = row[name] / base if base else None
                ratios.append(ratio)
    return ratios


def project(rows: Sequence[dict], max_iters: int, begin: int) -> list[dict]:
    """Combinations, and in ``seconds`` how long a whole search would take.

    Of its ``max_iters`` iterations, those from ``begin`` on have both halves.
    """
    counts = dict(weights=max_iters, arch=max_iters - begin, iteration=0)
    totals = Counter()
    for row in rows:
        if 'error' not in row:
            seconds = counts[row['half']] * row['seconds']
            totals[itemgetter(*KEYS)(row)] += seconds
    return [dict(zip(KEYS, case), seconds=s) for case, s in totals.items()]


def largest(fits: Callable[[int], bool]) -> int:
    """The largest n from 1 on for which ``fits(n)``; 0 if there is none.

    By doubling and bisection: ``fits`` must not become true again.
    """
    bad = 1
    while fits(bad):
        bad *= 2
    good = bad // 2
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def fit(cases: list, limits: list, memory: Callable) -> list[dict]:
    """The largest ``batch`` and ``crop`` of each net within each ``limit``.

    Limits are in 2^30 bytes; ``memory`` of a combination is in bytes.
    """

    @functools.cache
    def needed(net, crop, batch):
        return memory(dict(zip(KEYS, (crop, batch, *net))))

    def row(net, limit):
        room = limit * 2**30
        steps = largest(lambda n: needed(net, 32 * n + 1, FIT_BATCH) <= room)
        return dict(
            zip(BACKBONE_KEYS, net),
            limit=limit,
            batch=largest(lambda n: needed(net, FIT_CROP, n) <= room),
            crop=32 * steps + 1 if steps else 0,
        )

    nets = dict.fromkeys(map(itemgetter(*BACKBONE_KEYS), cases))
    return [row(net, limit) for net in nets for limit in limits]
