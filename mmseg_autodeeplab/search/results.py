"""What a search has left in its work directory, and what that says."""

import glob
import math
import os.path as osp
import re
from contextlib import contextmanager
from typing import Any, NamedTuple, Optional

from mmengine.config import Config
from mmseg.registry import HOOKS

from ..arch import (
    SCORES,
    Architecture,
    check_score,
    cost_tables,
    decode,
    expected_cost,
    one_hot,
)
from ..compat.registry import is_a, known_types_only
from ..errors import UserError
from ..models.complexity import image_channels
from . import history
from .config_text import look_up, read_config_file
from .gradient import ArchSearchHook

# What is shown, by the names in the log and in the legend.
LOSSES = dict(loss='weights, part A', arch_loss='architecture, part B')
GAP = {
    key: {f'gap/relaxed_{key}': 'relaxed', f'gap/one_hot_{key}': 'one-hot'}
    for key in ('loss', 'mIoU')
}
ENTROPIES = dict(alpha_entropy='alphas', beta_entropy='betas')
COST = dict(expected_cost='see the cost term above')
CHANGES = dict(changed_connections='connections', changed_layers='layers')
CURVES = (
    ('Losses', 'loss', LOSSES),
    ('Validation', 'mIoU (%)', dict(mIoU='mIoU')),
    ('Gap of the decode, part B: loss', 'loss', GAP['loss']),
    ('Gap of the decode, part B: mIoU', 'mIoU (%)', GAP['mIoU']),
    ('Entropies', 'nats', ENTROPIES),
    ('Expected cost', 'multiply-adds or parameters', COST),
    ('Choices changed since the time before', 'count', CHANGES),
)

Points = list[tuple[float, float]]


class Search(NamedTuple):
    """What a work directory tells of a search."""

    work_dir: str
    config: Config  # of the last run; of any form but for its hook
    hook: dict  # the config of the ArchSearchHook
    score: str  # of a path, by which all is decoded here
    runs: list[str]  # their names, from first to last
    scalars: list[dict]  # lines of the log, each with its `step`
    records: list[history.Record]
    changes: list[dict]  # like scalars, of what is decoded otherwise
    architecture: Optional[Architecture]  # the last one
    checkpoint: Optional[str]  # that of most iterations
    left_out: list[str]  # sentences on files that cannot be read

    def curve(self, name: str) -> Points:
        """A scalar over iterations, where it is a number."""
        lines = self.changes if name in CHANGES else self.scalars
        return [(line['step'], line[name]) for line in lines if name in line]


def search_hook_config(cfg: Config) -> Optional[dict]:
    """The first ``ArchSearchHook``, or one derived from it, of a config."""
    hooks = []
    for key in ('custom_hooks', 'default_hooks'):
        value = cfg.get(key)
        value = list(value.values()) if isinstance(value, dict) else value
        hooks += value if isinstance(value, (list, tuple)) else []
    return next((h for h in hooks if is_a(HOOKS, h, ArchSearchHook)), None)


def search_score(cfg: Config) -> str:
    """The score of a path that the ``ArchSearchHook`` of a config decodes by.

    A UserError where it is none.
    """
    hook = search_hook_config(cfg) or {}
    return check_score(hook.get('score', SCORES[0]), 'ArchSearchHook.score')


@known_types_only()
def read_search(work_dir: str) -> Search:
    """Read what a search, running or not, has written so far.

    All of it is data, and may be damaged: what cannot be read is left out.

    Raises:
        UserError: No run in there has an ``ArchSearchHook``.
    """
    left_out = []

    @contextmanager
    def noting():
        try:
            yield
        except (UserError, OSError) as error:
            left_out.append(str(error))

    configs, scalars, records = {}, [], []
    pattern = osp.join(glob.escape(work_dir), '*', 'vis_data', 'config.py')
    for file in sorted(glob.glob(pattern)):
        with noting():
            cfg = read_config_file(file)
            if hook := search_hook_config(cfg):
                configs[osp.dirname(file)] = cfg, hook
    if not configs:
        found = f' ({left_out[0]})' if left_out else ''
        raise UserError(
            f'{work_dir} holds no search: none of its */vis_data/config.py '
            f'has an ArchSearchHook{found}; give the work directory of '
            'tools/train.py with a search config.'
        )
    for folder in configs:
        lines = []
        with noting():
            lines = history.read_json_lines(osp.join(folder, 'scalars.json'))
        lines = [
            {k: v for k, v in line.items() if history.is_number(v)}
            for line in lines
        ]
        lines = [line for line in lines if 'step' in line]
        # A resumed run goes through some iterations once more.
        begin = lines[0]['step'] if lines else math.inf
        scalars = [line for line in scalars if line['step'] < begin] + lines

    config, hook = list(configs.values())[-1]
    score = SCORES[0]
    with noting():
        score = search_score(config)
    with noting():
        records = history.read_history(work_dir)
    decoded = [decode(r.alphas, r.betas, score) for r in records]
    counts = map(history.count_changes, decoded, decoded[1:])
    changes = [
        dict(zip(CHANGES, pair), step=record.iteration)
        for record, pair in zip(records[1:], counts)
    ]
    file = osp.join(work_dir, history.ARCHITECTURE_FILE)
    if not decoded and osp.lexists(file):
        with noting():
            decoded = [Architecture.load(file)]
    pattern = osp.join(glob.escape(work_dir), 'iter_*.pth')
    checkpoints = {
        int(found[1]): file
        for file in filter(osp.isfile, glob.glob(pattern))
        if (found := re.fullmatch(r'iter_(\d+)\.pth', osp.basename(file)))
    }
    return Search(
        work_dir,
        config,
        hook,
        score,
        [osp.basename(osp.dirname(folder)) for folder in configs],
        scalars,
        records,
        changes,
        decoded[-1] if decoded else None,
        checkpoints[max(checkpoints)] if checkpoints else None,
        left_out,
    )


def config_name(search: Search) -> str:
    """The file name of the config, as far as it is known."""
    return _text(_last_note(search, 'config') or 'a config without name')


def settings(search: Search) -> dict[str, str]:
    """What was searched on, and how."""
    done = [line['step'] for line in search.scalars]
    done += [record.iteration for record in search.records]
    length = look_up(search.config, 'train_cfg.max_iters')
    places = {
        'Dataset': 'train_dataloader.dataset.type',
        'Data root': 'train_dataloader.dataset.data_root',
        'Batch size': 'train_dataloader.batch_size',
        'Crop (pixels)': 'model.data_preprocessor.size',
        'Layers, L': 'model.backbone.num_layers',
        'Blocks per cell, B': 'model.backbone.num_blocks',
        'Filter multiplier, F': 'model.backbone.filter_multiplier',
        'Optimizer of the weights': 'optim_wrapper.optimizer',
        'Seed': 'randomness.seed',
    }
    shown = {
        'Config': config_name(search),
        'Work directory': search.work_dir,
        'Iterations': f'{max(done, default=0)} of {_text(length)}',
        'Architecture updated from iteration': search.hook.get('begin', 0),
        **{key: look_up(search.config, at) for key, at in places.items()},
        'Optimizer of the architecture': search.hook.get('optimizer'),
        'Score of a path': search.score,
        'Cost term': search.hook.get('cost'),
        'Terms of the loss': search.hook.get('terms'),
        'Runs': ', '.join(search.runs),
        'Versions': _last_note(search, 'versions'),
        'Left out': '; '.join(search.left_out) or None,
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


def _text(value: Any, depth: int = 20) -> str:
    def inner(value):
        return _text(value, depth - 1) if depth else '...'

    if isinstance(value, dict):
        return ', '.join(f'{k} {inner(v)}' for k, v in value.items())
    if isinstance(value, (list, tuple)):
        separator = '; ' if any(isinstance(v, dict) for v in value) else ' × '
        return separator.join(map(inner, value))
    return str(value)
