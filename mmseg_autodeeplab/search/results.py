"""What a search has left in its work directory, and what that says."""

import glob
import math
import os.path as osp
from typing import Any, NamedTuple, Optional

from mmengine.config import Config
from mmseg.registry import HOOKS

from ..arch import Architecture, cost_tables, expected_cost, one_hot
from ..compat.registry import is_a
from ..errors import UserError
from ..models.complexity import image_channels
from . import history
from .gradient import ArchSearchHook

# What is shown, by the names in the log and in the legend.
LOSSES = dict(loss='weights, part A', arch_loss='architecture, part B')
ENTROPIES = dict(alpha_entropy='alphas', beta_entropy='betas')
COST = dict(expected_cost='see the cost term above')
CHANGES = dict(changed_connections='connections', changed_layers='layers')
CURVES = (
    ('Losses', 'loss', LOSSES),
    ('Validation', 'mIoU (%)', dict(mIoU='mIoU')),
    ('Entropies', 'nats', ENTROPIES),
    ('Expected cost', 'multiply-adds or parameters', COST),
    ('Choices changed since the time before', 'count', CHANGES),
)

Points = list[tuple[float, float]]


class Search(NamedTuple):
    """What a work directory tells of a search."""

    work_dir: str
    config: Config  # of the last run
    runs: list[str]  # their names, from first to last
    scalars: list[dict]  # lines of the log, each with its `step`
    records: list[history.Record]
    changes: list[dict]  # like scalars, of what is decoded otherwise
    architecture: Optional[Architecture]  # the last one
    checkpoint: Optional[str]  # the newest one

    def curve(self, name: str) -> Points:
        """A scalar over iterations, where it is a number."""
        return [
            (line['step'], line[name])
            for line in (self.changes if name in CHANGES else self.scalars)
            if math.isfinite(line.get(name, math.nan))
        ]


def search_hook_config(cfg: Config) -> Optional[dict]:
    """The first ``ArchSearchHook``, or one derived from it, of a config."""
    hooks = list(cfg.get('custom_hooks') or [])
    hooks += (cfg.get('default_hooks') or {}).values()
    return next((h for h in hooks if is_a(HOOKS, h, ArchSearchHook)), None)


def read_search(work_dir: str) -> Search:
    """Read what a search, running or not, has written so far.

    Raises:
        UserError: No run in there has an ``ArchSearchHook``.
    """
    configs = {}
    for file in sorted(glob.glob(osp.join(work_dir, '*/vis_data/config.py'))):
        cfg = Config.fromfile(file, import_custom_modules=False)
        if search_hook_config(cfg):
            configs[osp.dirname(file)] = cfg
    if not configs:
        raise UserError(
            f'{work_dir} holds no search: none of its */vis_data/config.py '
            'has an ArchSearchHook; give the work directory of '
            'tools/train.py with a search config.'
        )
    scalars: list[dict] = []
    for folder in configs:
        lines = history.read_json_lines(osp.join(folder, 'scalars.json'))
        lines = [line for line in lines if 'step' in line]
        # A resumed run goes through some iterations once more.
        begin = lines[0]['step'] if lines else math.inf
        scalars = [line for line in scalars if line['step'] < begin] + lines

    records = history.read_history(work_dir)
    decoded = [record.architecture for record in records]
    counts = map(history.count_changes, decoded, decoded[1:])
    changes = [
        dict(zip(CHANGES, pair), step=record.iteration)
        for record, pair in zip(records[1:], counts)
    ]
    file = osp.join(work_dir, history.ARCHITECTURE_FILE)
    if not decoded and osp.exists(file):
        decoded = [Architecture.load(file)]
    checkpoints = glob.glob(osp.join(work_dir, 'iter_*.pth'))
    return Search(
        work_dir,
        list(configs.values())[-1],
        [osp.basename(osp.dirname(folder)) for folder in configs],
        scalars,
        records,
        changes,
        decoded[-1] if decoded else None,
        max(checkpoints, key=osp.getmtime, default=None),
    )


def config_name(search: Search) -> str:
    """The file name of the config, as far as it is known."""
    return _last_note(search, 'config') or 'a config without name'


def settings(search: Search) -> dict[str, str]:
    """What was searched on, and how."""
    cfg, hook = search.config, search_hook_config(search.config)
    loader, backbone = cfg.train_dataloader, cfg.model.backbone
    dataset = loader.dataset
    done = [line['step'] for line in search.scalars]
    done += [record.iteration for record in search.records]
    shown = {
        'Config': config_name(search),
        'Work directory': search.work_dir,
        'Dataset': dataset.get('type'),
        'Data root': dataset.get('data_root'),
        'Iterations': f'{max(done, default=0)} of {cfg.train_cfg.max_iters}',
        'Architecture updated from iteration': hook.get('begin', 0),
        'Batch size': loader.get('batch_size'),
        'Crop (pixels)': _size(cfg.model),
        'Layers, L': backbone.get('num_layers'),
        'Blocks per cell, B': backbone.get('num_blocks'),
        'Filter multiplier, F': backbone.get('filter_multiplier'),
        'Optimizer of the weights': cfg.optim_wrapper.get('optimizer'),
        'Optimizer of the architecture': hook.get('optimizer'),
        'Cost term': hook.get('cost'),
        'Terms of the loss': hook.get('terms'),
        'Seed': cfg.get('randomness', {}).get('seed'),
        'Runs': ', '.join(search.runs),
        'Versions': _last_note(search, 'versions'),
    }
    return {key: _text(v) for key, v in shown.items() if v is not None}


def latest(search: Search) -> dict[str, str]:
    """The last values of what the curves show."""
    points = {
        f'{title}: {label}': curve[-1]
        for title, _, names in CURVES
        for name, label in names.items()
        if (curve := search.curve(name))
    }
    if miou := search.curve('mIoU'):
        points['Validation: best mIoU'] = max(miou, key=lambda point: point[1])
    return {
        label: f'{value:.5g} (iteration {step})'
        for label, (step, value) in points.items()
    }


def derived_cost(search: Search) -> dict[str, str]:
    """Parameters and multiply-adds of the derived network's backbone."""
    architecture = search.architecture
    searched = search.config.model
    model = search.config.get('retrain', {}).get('model', {})
    # Or the paper's.
    shape = _size(model) or _size(searched) or (1025, 2049)
    # Where the config says nothing, both have the published network's.
    widths = dict(in_channels=image_channels(searched)) | {
        key: value
        for key, value in model.get('backbone', {}).items()
        if key in ('filter_multiplier', 'stem_channels', 'in_channels')
    }

    def cost(quantity):
        size = architecture.num_blocks, architecture.num_layers
        tables = cost_tables(*size, quantity, shape, **widths)
        return f'{round(expected_cost(tables, *one_hot(architecture))):,}'

    at = f'at {_text(shape)} pixels, backbone without head'
    return {
        'Parameters, backbone without head': cost('parameters'),
        f'Multiply-adds {at}': cost('multiply_adds'),
    }


def _last_note(search, name):
    notes = [record.notes.get(name) for record in search.records]
    return next(filter(None, reversed(notes)), None)


def _size(model):
    return model.get('data_preprocessor', {}).get('size')


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ', '.join(f'{k} {_text(v)}' for k, v in value.items())
    if isinstance(value, (list, tuple)):
        separator = '; ' if any(isinstance(v, dict) for v in value) else ' × '
        return separator.join(map(_text, value))
    return str(value)
