"""From the config of a search to the config that retrains what it found."""

import copy
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmseg.registry import DATA_SAMPLERS, HOOKS, MODELS

from ..arch import (
    Architecture,
    AutoDeepLabArchitecture,
    DPCArchitecture,
    TemplateArchitecture,
)
from ..compat.registry import is_a, named, resolve
from ..datasets import SplitInfiniteSampler, uncheck_pipelines
from ..errors import UserError, one_line
from ..models import AutoDeepLab, AutoDeepLabHead, DPCHead, TemplateHead
from .retrain_check import complete_and_check, complete_model, sentence

PACKAGE = Path(__file__).resolve().parents[1]
# Where configs and tools are: in the checkout, or as installed.
ROOT = PACKAGE / '.mim' if (PACKAGE / '.mim').is_dir() else PACKAGE.parent
# In `retrain`, MMEngine's own word would be gone once a config inherits it.
REPLACE, DELETE = '_replace_', '_delete_'
# On what it is searched, and around it: carried over.
CARRIED = """
    train_dataloader val_dataloader val_evaluator val_cfg test_dataloader
    test_evaluator test_cfg tta_pipeline tta_model custom_imports default_scope
    env_cfg log_level log_processor randomness vis_backends visualizer
""".split()
CARRIED_OF_HEAD = """
    num_classes out_channels ignore_index threshold sampler loss_decode
""".split()
# How it is searched: what is set beyond the bases is named, but for sizes,
# lengths and the optimizer, which every search has of its own.
LEFT_OUT = """
    model optim_wrapper train_cfg default_hooks load_from auto_scale_lr compile
    activation_checkpointing efficient_conv_bn_eval find_unused_parameters
    model_wrapper_cfg sync_bn
""".split()
OWN = """
    num_layers num_blocks filter_multiplier stem_channels form graphs
    partial_channels in_channels channels rate optimizer max_iters val_interval
    interval
""".split()


def retrain_config(
    search: Config, architecture: Architecture
) -> tuple[Config, list[str]]:
    """Make the config that retrains an architecture where it was searched.

    What describes the task is that of the search, on the whole training set;
    model and schedule are the published network's; ``retrain`` of the search
    config is merged over it. Its model is built, and its loop checked.
    That of a black-box search keeps the network and the schedule of the proxy.

    Returns:
        tuple[Config, list[str]]: The config, and the names of what the search
        has beyond the bases of a search and the config lacks.

    Raises:
        UserError: The kind has no network, or the config cannot be built.
    """
    try:
        return _retrain_config(search, architecture)
    except UserError:
        raise
    except Exception as error:  # Lists for dicts, numbers for lists.
        raise UserError(
            f'the search config gives no config to retrain ({one_line(error)})'
            ': one of its values is of another kind than a search has'
        ) from error


def _retrain_config(search, architecture):
    search = Config(named(search.to_dict()))
    if search.get('search'):
        cfg, left_out = Config(search.to_dict()), []
        for key in ('search', 'retrain'):
            cfg.pop(key, None)
        place_architecture(cfg.model, architecture)
    else:
        cfg, left_out = _from_supernet(search, architecture)
    with sentence('retrain cannot be merged over the rest'):
        cfg = _merged(cfg, search.get('retrain') or {})
        _complete_evaluation(cfg)
    uncheck_pipelines(list(cfg.values()))
    complete_and_check(cfg)
    return cfg, left_out


def place_architecture(model: Config, architecture: Architecture) -> None:
    """Put an architecture into the config of a model, where its kind goes.

    Raises:
        UserError: The model has no part that is built from it.
    """
    part, cls = PLACES[type(architecture)]
    if not is_a(MODELS, model.get(part), cls):
        raise UserError(
            f'a {type(architecture).__name__} is that of a {cls.__name__}, '
            f'but model.{part} is a {(model.get(part) or {}).get("type")}'
        )
    model[part].arch = architecture.content()
    head = model.decode_head
    if is_a(MODELS, head, AutoDeepLabHead):
        # These follow from the path; others than of the bases stay.
        head.pop('in_channels', None)
        usual = _base('models', 'autodeeplab').model.decode_head.dilations
        if list(head.get('dilations', ())) == list(usual):
            del head['dilations']
        complete_model(model)


def _from_supernet(search, architecture):
    if type(architecture) not in NETWORKS:
        raise UserError(
            f'there is no network for a {type(architecture).__name__}: give '
            f'one of {", ".join(kind.__name__ for kind in NETWORKS)}'
        )
    cfg = _base('schedules', 'retrain')
    cfg.pop('max_iters')
    # A new-style config has neither.
    cfg.default_scope = 'mmseg'
    cfg.custom_imports = dict(imports=[PACKAGE.name])
    for key in CARRIED:
        if search.get(key) is not None:
            cfg[key] = search[key]
    loader = cfg.train_dataloader
    if is_a(DATA_SAMPLERS, loader.get('sampler'), SplitInfiniteSampler):
        loader.sampler = dict(type='InfiniteSampler', shuffle=True)
    for name, hook in (search.get('default_hooks') or {}).items():
        if name not in cfg.default_hooks and not _goes(hook):
            cfg.default_hooks[name] = hook
    hooks = search.get('custom_hooks') or []
    cfg.custom_hooks = [hook for hook in hooks if not _goes(hook)]
    cfg.model = NETWORKS[type(architecture)](search, architecture)
    return cfg, _left_out(search, cfg)


def _base(kind, name):
    """A config of ``configs/_base_``."""
    return Config.fromfile(ROOT / 'configs/_base_' / kind / f'{name}.py')


def _is_of_search(hook):
    return bool(hook) and getattr(
        resolve(HOOKS, hook.get('type')), 'of_search', False
    )


def _goes(hook):
    """EMAHook, too: it has the averages of a supernet there."""
    return _is_of_search(hook) or is_a(HOOKS, hook, EMAHook)


def _autodeeplab(search, architecture):
    model, searched = _base('models', 'autodeeplab').model, search.model
    # MMEngine takes one from outside of the model, too.
    outside = search.get('data_preprocessor')
    for own, other, keys in (
        (model, dict(data_preprocessor=outside), ['data_preprocessor']),
        (model, searched, ['data_preprocessor', 'test_cfg']),
        (model.backbone, searched.backbone, ['in_channels']),
        (model.decode_head, searched.decode_head, CARRIED_OF_HEAD),
    ):
        for key in keys:
            if other.get(key) is not None:
                own[key] = other[key]
    model.backbone.arch = architecture.content()
    # These follow from the path, unless `retrain` has a say.
    del model.decode_head['in_channels'], model.decode_head['dilations']
    return model


# The model for each kind of architecture that a supernet finds.
NETWORKS = {AutoDeepLabArchitecture: _autodeeplab}
# What is built from each kind, in a model.
PLACES = {
    AutoDeepLabArchitecture: ('backbone', AutoDeepLab),
    DPCArchitecture: ('decode_head', DPCHead),
    TemplateArchitecture: ('decode_head', TemplateHead),
}


def _left_out(search, cfg):
    """What a user set beyond the bases of a search, and goes no further."""
    if search.get('resume'):
        search.pop('load_from', None)  # Its own checkpoint.
    given = {key: search[key] for key in LEFT_OUT if key in search}
    hooks = (search.get('default_hooks') or {}).items()
    given['default_hooks'] = {
        name: hook for name, hook in hooks if not _is_of_search(hook)
    }
    usual = dict(
        _base('schedules', 'search'),
        model=_base('models', 'autodeeplab_supernet').model,
    )
    hooks = enumerate(search.get('custom_hooks') or [])
    averages = [i for i, hook in hooks if is_a(HOOKS, hook, EMAHook)]
    return [
        *_differences(given, usual, cfg),
        *(f'custom_hooks.{i} (EMAHook)' for i in averages),
    ]


def _differences(given, usual, carried, prefix=''):
    """Dotted names of what stands in one config and in neither of others."""
    for key, value in given.items():
        if key in OWN or value in (usual.get(key), carried.get(key)):
            continue
        if isinstance(value, dict) and isinstance(usual.get(key), dict):
            others = usual[key], carried.get(key) or {}
            yield from _differences(value, *others, f'{prefix}{key}.')
        else:
            yield prefix + key


def _complete_evaluation(cfg):
    """No loop without a loader; mmseg.apis read the variable."""
    for part in ('val', 'test'):
        dataset = loader = cfg.setdefault(f'{part}_dataloader', None)
        cfg[f'{part}_cfg'] = loader and cfg[f'{part}_cfg']
        while dataset and 'pipeline' not in dataset:  # A wrapper.
            dataset = (dataset.get('datasets') or [dataset.get('dataset')])[0]
        if dataset:
            cfg.test_pipeline = copy.deepcopy(dataset['pipeline'])


def _merged(cfg, retrain):
    """Both become values of one key, so that either may replace all."""
    merged = Config(dict(retrain=cfg.to_dict()))
    merged.merge_from_dict(dict(retrain=_renamed(retrain, REPLACE, DELETE)))
    return Config(_renamed(merged.retrain, DELETE, None))


def _renamed(value, old, new):
    """The same with another name for a key, or without it for None."""
    if isinstance(value, dict):
        return {
            new if key == old else key: _renamed(inner, old, new)
            for key, inner in value.items()
            if key != old or new
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_renamed(inner, old, new) for inner in value)
    return value
