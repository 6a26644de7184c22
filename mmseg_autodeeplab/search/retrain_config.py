"""From the config of a search to the config that retrains what it found."""

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.registry import Registry
from mmseg.registry import (
    DATA_SAMPLERS,
    HOOKS,
    LOOPS,
    MODELS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
)

from ..arch import RATES, Architecture, AutoDeepLabArchitecture
from ..compat.registry import is_a, resolve
from ..datasets import SplitInfiniteSampler, uncheck_pipelines
from ..errors import UserError, one_line
from ..models import AutoDeepLab, AutoDeepLabHead
from .gradient import ArchSearchHook

# What MMEngine reads of a config that it builds an object from.
OF_MMENGINE = ('type', '_scope_', 'priority', 'convert_to_iter_based')
PACKAGE = Path(__file__).resolve().parents[1]
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# What describes the task and the run: on what it is searched, not how.
TASK = (
    *LOADERS,
    'val_evaluator',
    'test_evaluator',
    'val_cfg',
    'test_cfg',
    'tta_pipeline',
    'tta_model',
)
RUNTIME = (
    'custom_imports',
    'default_scope',
    'env_cfg',
    'log_level',
    'log_processor',
    'randomness',
    'vis_backends',
    'visualizer',
)
HEAD = (
    'num_classes',
    'out_channels',
    'ignore_index',
    'threshold',
    'sampler',
    'loss_decode',
)
# What MMEngine reads besides, for the one model that is trained.
OF_THE_SEARCH = (
    'activation_checkpointing',
    'auto_scale_lr',
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'sync_bn',
)


def retrain_config(
    search: Config, architecture: Architecture
) -> tuple[Config, list[str]]:
    """Make the config that retrains an architecture where it was searched.

    What describes the task is that of the search, on the whole training set;
    model and schedule are the published network's; ``retrain`` of the search
    config is merged over all of it, as configs are merged over their bases.
    The whole of it is built, but for the data, before it is returned.

    Args:
        search (Config): The config of the search; it stays as it is.
        architecture (Architecture): What it found.

    Returns:
        tuple[Config, list[str]]: The config, and the names of what the search
        has beyond the bases of a search and the config lacks.

    Raises:
        UserError: The kind of architecture has no network, or the config
            cannot be built.
    """
    if type(architecture) not in NETWORKS:
        raise UserError(
            f'there is no network for a {type(architecture).__name__}: give '
            f'one of {", ".join(kind.__name__ for kind in NETWORKS)}'
        )
    search = copy.deepcopy(search)
    schedule = base('schedules', 'retrain')
    cfg = Config({k: search[k] for k in TASK + RUNTIME if k in search})
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg'):
        cfg[key] = schedule[key]
    sampler = cfg.train_dataloader.get('sampler')
    if is_a(DATA_SAMPLERS, sampler, SplitInfiniteSampler):
        cfg.train_dataloader.sampler = dict(
            type='InfiniteSampler', shuffle=True
        )
    cfg.default_hooks, cfg.custom_hooks = _hooks(search, schedule)
    cfg.model = NETWORKS[type(architecture)](search, architecture)

    with _sentence('retrain cannot be merged over the rest'):
        changes = search.get('retrain') or {}
        for key in changes:  # A dict merges over nothing, but not over None.
            if cfg.get(key) is None:
                cfg.pop(key, None)
        cfg.merge_from_dict(changes)
    for part in ('val', 'test'):
        loader = cfg.get(f'{part}_dataloader')
        key = f'{part}_cfg'
        cfg[key] = loader and (cfg.get(key) or schedule[key])
        if loader is not None:  # The one variable that mmseg.apis reads.
            cfg.test_pipeline = copy.deepcopy(_pipeline(loader.dataset))
    if cfg.get('test_pipeline') is None:
        cfg.pop('test_pipeline', None)
    for key in (*LOADERS, 'tta_pipeline', 'test_pipeline'):
        uncheck_pipelines(cfg.get(key))
    cfg = Config(_plain(cfg.to_dict()))
    _build(cfg)
    return cfg, _left_out(search)


def base(kind: str, name: str) -> Config:
    """A config of ``configs/_base_``, of the checkout or as installed."""
    root = PACKAGE / '.mim' / 'configs'
    if not root.is_dir():
        root = PACKAGE.parent / 'configs'
    return Config.fromfile(root / '_base_' / kind / f'{name}.py')


def _autodeeplab(search: Config, architecture: Architecture) -> dict:
    model = base('models', 'autodeeplab').model
    searched = search.model
    found = dict(
        # MMEngine takes one from outside of the model, too.
        data_preprocessor=searched.get(
            'data_preprocessor', search.get('data_preprocessor')
        ),
        test_cfg=searched.get('test_cfg'),
    )
    model.update({k: v for k, v in found.items() if v is not None})
    if 'in_channels' in searched.backbone:
        model.backbone.in_channels = searched.backbone.in_channels
    model.backbone.arch = architecture.content()
    head = model.decode_head
    for key in HEAD:
        if key in searched.decode_head:
            head[key] = searched.decode_head[key]
    # These follow from the path, unless `retrain` has a say.
    del head['in_channels'], head['dilations']
    return model


# The model for each kind of architecture.
NETWORKS: dict[type, Callable[[Config, Any], dict]] = {
    AutoDeepLabArchitecture: _autodeeplab
}


def _hooks(search: Config, schedule: Config) -> tuple[dict, list]:
    """Hooks of the schedule, and those of the search that are not its own."""
    default = schedule.default_hooks
    known = base('schedules', 'search').default_hooks
    for name, hook in (search.get('default_hooks') or {}).items():
        if name not in known and not _is_of_search(hook):
            default[name] = hook
    custom = search.get('custom_hooks') or []
    return default, [hook for hook in custom if not _is_of_search(hook)]


def _is_of_search(hook: Any) -> bool:
    """EMAHook, too: it has the averages of a supernet there."""
    painter = resolve(HOOKS, 'SearchVisualizationHook')
    return is_a(HOOKS, hook, ArchSearchHook, EMAHook, painter)


def _pipeline(dataset: dict) -> Any:
    """That of the first data set within wrappers."""
    while 'pipeline' not in dataset:
        inner = dataset.get('datasets') or [dataset.get('dataset')]
        if not isinstance(inner[0], dict):
            return None
        dataset = inner[0]
    return dataset['pipeline']


def _plain(value: Any) -> Any:
    """The same as text can have it: names of classes, and no ``_delete_``."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k != '_delete_'}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    if isinstance(value, type):
        return f'{value.__module__}.{value.__qualname__}'
    return value


def _build(cfg: Config) -> None:
    """Build the model, complete its head, and see that the rest can be built.

    Raises:
        UserError: It cannot.
    """
    model = cfg.model
    with _sentence('model cannot be built'):
        backbone = MODELS.build(copy.deepcopy(model.backbone))
        head = model.decode_head
        if isinstance(backbone, AutoDeepLab) and is_a(
            MODELS, head, AutoDeepLabHead
        ):
            head.setdefault('in_channels', list(backbone.out_channels))
            # 12, 24, 36 at stride 8.
            stride = RATES[backbone.arch.stages[-1].level]
            head.setdefault('dilations', [96 // stride * k for k in (1, 2, 3)])
        MODELS.build(copy.deepcopy(model))
    _bind(LOOPS, cfg.train_cfg, 'train_cfg', 2)
    for part in ('val', 'test'):
        _bind(LOOPS, cfg[f'{part}_cfg'], f'{part}_cfg', 3)
    wrapper = cfg.optim_wrapper
    with _sentence('optim_wrapper cannot be built'):
        _class(OPTIM_WRAPPERS, wrapper.get('type', 'OptimWrapper'))
    if 'constructor' not in wrapper:
        _bind(OPTIMIZERS, wrapper.get('optimizer'), 'optim_wrapper', 1)
    schedulers = cfg.param_scheduler
    for scheduler in schedulers if isinstance(schedulers, list) else []:
        _bind(PARAM_SCHEDULERS, scheduler, 'param_scheduler', 1)
    for hook in cfg.default_hooks.values():
        _bind(HOOKS, hook, 'default_hooks', 0)
    for hook in cfg.custom_hooks:
        _bind(HOOKS, hook, 'custom_hooks', 0)
    for key in LOADERS:
        loader = cfg.get(key) or {}
        _bind(DATA_SAMPLERS, loader.get('sampler'), f'{key}.sampler', 1)


def _bind(registry: Registry, cfg: Any, key: str, given: int) -> None:
    """See that a class takes its arguments, after so many of MMEngine's."""
    if not isinstance(cfg, dict) or 'type' not in cfg:
        return  # MMEngine has a default.
    with _sentence(f'{key} cannot be built'):
        cls = _class(registry, cfg['type'])
        arguments = {k: v for k, v in cfg.items() if k not in OF_MMENGINE}
        inspect.signature(cls).bind(*[None] * given, **arguments)


def _class(registry: Registry, name: Any) -> type:
    cls = resolve(registry, name)
    if cls is None:
        raise KeyError(f'{name} is not among {registry.name}s')
    return cls


@contextlib.contextmanager
def _sentence(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # A model, a hook: anyone's code.
        raise UserError(
            f'the search config gives no config to retrain, since {what} '
            f'({one_line(error)}): mend its `retrain`, where a dict with '
            '_delete_=True replaces what it would be merged over'
        ) from error


def _left_out(search: Config) -> list[str]:
    """What a user set in a search beyond its bases, and is not carried over.

    Lengths, intervals, the optimizer of the supernet and its sizes are none.
    """
    supernet = base('models', 'autodeeplab_supernet').model
    schedule = base('schedules', 'search')
    compared = (
        (
            'model',
            supernet,
            ('backbone', 'data_preprocessor', 'decode_head', 'test_cfg'),
        ),
        (
            'model.decode_head',
            supernet.decode_head,
            (*HEAD, 'in_channels', 'channels', 'norm_cfg'),
        ),
        ('optim_wrapper', schedule.optim_wrapper, ('optimizer',)),
        (
            'train_cfg',
            schedule.train_cfg,
            ('type', 'max_iters', 'val_interval'),
        ),
    )
    found = [key for key in OF_THE_SEARCH if search.get(key)]
    if search.get('load_from') and not search.get('resume'):
        found.append('load_from')
    for key, usual, known in compared:
        given = search
        for name in key.split('.'):
            given = given.get(name) or {}
        found += [
            f'{key}.{name}'
            for name, value in given.items()
            if name not in known and value not in (None, {}, usual.get(name))
        ]
    hooks = search.get('default_hooks') or {}
    for name, usual in schedule.default_hooks.items():
        if name in hooks and not _is_of_search(usual):
            given = dict(hooks[name] or {}, interval=None)
            if given != dict(usual, interval=None):
                found.append(f'default_hooks.{name}')
    return found + [
        f'custom_hooks.{i} (EMAHook)'
        for i, hook in enumerate(search.get('custom_hooks') or [])
        if is_a(HOOKS, hook, EMAHook)
    ]
