"""Whether a config to retrain can be built, before it is written."""

import contextlib
import copy
import inspect
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import AmpOptimWrapper, build_optim_wrapper
from mmseg.registry import (
    DATASETS,
    HOOKS,
    MODELS,
    OPTIM_WRAPPERS,
    PARAM_SCHEDULERS,
)
from torch import nn

from ..arch import RATES
from ..compat.registry import is_a, resolve
from ..engine import check_ends, loop_class
from ..errors import UserError, one_line
from ..models import AutoDeepLab, AutoDeepLabHead


def complete_and_check(cfg: Config) -> None:
    """Build what needs no data, and see that the rest takes its arguments.

    Raises:
        UserError: Something cannot be built, or a loop would not end.
    """
    with sentence('model cannot be built'):
        model = complete_model(cfg.model)
    with sentence('optim_wrapper cannot be built'):
        wrapper = _build_optim_wrapper(model, cfg.optim_wrapper)
    with sentence('param_scheduler cannot be built'):
        schedulers = cfg.get('param_scheduler') or []
        if isinstance(schedulers, dict):
            schedulers = [schedulers]
        for scheduler in copy.deepcopy(schedulers):
            given = dict(optimizer=wrapper, epoch_length=1)
            PARAM_SCHEDULERS.build(scheduler, default_args=given)
    for part, others in dict(train=2, val=3, test=3).items():
        if part != 'train' and cfg[f'{part}_dataloader'] is None:
            continue
        with sentence(f'{part}_dataloader cannot be built'):
            dataset = cfg[f'{part}_dataloader'].dataset
            _bind(resolve(DATASETS, dataset.type), dataset, 'type')
        with sentence(f'{part}_cfg cannot be built'):
            # After the runner, the loader and the evaluator.
            _bind_loop(part, cfg[f'{part}_cfg'], [None] * others)
    with sentence('a loop would not end'):
        check_ends(cfg, 'train', 'val', 'test')
    with sentence('a hook cannot be built'):
        hooks = cfg.get('default_hooks', {}).values()
        for hook in [*hooks, *(cfg.get('custom_hooks') or [])]:
            if hook is not None:  # One that is switched off.
                _bind(resolve(HOOKS, hook['type']), hook, 'type', 'priority')


def complete_model(cfg: Config) -> nn.Module:
    """Fill in what follows from the path, and build the model."""
    backbone = MODELS.build(copy.deepcopy(cfg.backbone))
    head = cfg.decode_head
    is_ours = is_a(MODELS, head, AutoDeepLabHead)
    if is_ours and isinstance(backbone, AutoDeepLab):
        head.setdefault('in_channels', list(backbone.out_channels))
        # 12, 24, 36 at stride 8.
        rate = 96 // RATES[backbone.arch.stages[-1].level]
        head.setdefault('dilations', [rate, 2 * rate, 3 * rate])
    return MODELS.build(copy.deepcopy(cfg))


def _build_optim_wrapper(model, cfg):
    """Without mixed precision, which asks for a GPU here and now."""
    if is_a(OPTIM_WRAPPERS, cfg, AmpOptimWrapper):
        keys = inspect.signature(AmpOptimWrapper).parameters
        cfg = {k: v for k, v in cfg.items() if k not in ('type', *keys)}
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')  # It tells the settings of all parameters.
    try:
        return build_optim_wrapper(model, cfg)
    finally:
        logger.setLevel(level)


def _bind_loop(part, cfg, others):
    kind = loop_class(part, cfg)
    _bind(kind, cfg, 'type' if 'type' in cfg else 'by_epoch', others=others)


def _bind(kind, cfg, *own, others=()):
    """See that a class takes arguments, but for what is the runner's own."""
    if kind is None:
        raise KeyError(f'{cfg.get("type")} is not registered')
    own = (*own, '_scope_')
    arguments = {key: value for key, value in cfg.items() if key not in own}
    inspect.signature(kind).bind(*others, **arguments)


@contextlib.contextmanager
def sentence(what: str) -> Iterator[None]:
    """Make any error a :class:`UserError` that says what is wrong."""
    try:
        yield
    except Exception as error:  # A model, a loop: anyone's code.
        ours = isinstance(error, UserError)
        reason = str(error).rstrip('.') if ours else one_line(error)
        raise UserError(
            f'the search config gives no config to retrain, since {what} '
            f'({reason}): mend its `retrain`, where a dict with '
            '_replace_=True replaces what it would be merged over'
        ) from error
