"""What a search has left in its work directory, and what that says."""

import dataclasses
import functools
import glob
import math
import os.path as osp
from typing import Any, Optional

from mmengine.config import Config

from ..arch import (
    QUANTITIES,
    Architecture,
    cost_tables,
    expected_cost,
    one_hot,
)
from ..errors import UserError
from .history import (
    ARCHITECTURE_FILE,
    Record,
    count_changes,
    read_history,
    read_json_lines,
)
from .hook_config import search_hook_config

# What is shown: title, unit, names in the log and in the legend. What has
# changed is not from the log, but from the history.
CURVES = (
    (
        'Losses',
        'loss',
        dict(loss='weights, part A', arch_loss='architecture, part B'),
    ),
    ('Validation', 'mIoU (%)', dict(mIoU='mIoU')),
    (
        'Entropies',
        'nats',
        dict(alpha_entropy='alphas', beta_entropy='betas'),
    ),
    (
        'Expected cost',
        'multiply-adds or parameters',
        dict(expected_cost='see the cost term above'),
    ),
    (
        'Choices changed since the time before',
        'count',
        dict(changed_connections='connections', changed_layers='layers'),
    ),
)

CHANGES = ('changed_connections', 'changed_layers')

Points = list[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Search:
    """What a work directory tells of a search.

    Attributes:
        work_dir (str): The directory.
        config (Config): The config of the last run.
        runs (list[str]): Names of the runs, from first to last.
        scalars (list[dict]): Lines of the log, each with its ``step``.
        records (list[Record]): Alphas and betas over time.
        architecture (Architecture, optional): The last one.
        checkpoint (str, optional): The newest one.
    """

    work_dir: str
    config: Config
    runs: list[str]
    scalars: list[dict]
    records: list[Record]
    architecture: Optional[Architecture]
    checkpoint: Optional[str]

    @functools.cached_property
    def _changes(self) -> list[tuple[int, tuple[int, int]]]:
        """Iterations, and what is decoded otherwise than the time before."""
        decoded = [record.architecture for record in self.records]
        return [
            (record.iteration, count_changes(before, after))
            for record, before, after in zip(
                self.records[1:], decoded, decoded[1:]
            )
        ]

    @property
    def iterations(self) -> int:
        """How many are known to be done."""
        steps = [line['step'] for line in self.scalars]
        steps += [record.iteration for record in self.records]
        return max(steps, default=0)

    def curve(self, name: str) -> Points:
        """A scalar over iterations, where it is a number."""
        if name in CHANGES:
            place = CHANGES.index(name)
            return [(step, both[place]) for step, both in self._changes]
        return [
            (line['step'], line[name])
            for line in self.scalars
            if math.isfinite(line.get(name, math.nan))
        ]


def read_search(work_dir: str) -> Search:
    """Read what a search, running or not, has written so far.

    Args:
        work_dir (str): Its work directory.

    Returns:
        Search: What was found.

    Raises:
        UserError: If no run in there has an ``ArchSearchHook``.
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
        lines = [
            line
            for line in read_json_lines(osp.join(folder, 'scalars.json'))
            if 'step' in line
        ]
        if lines:
            # A resumed run goes through some iterations once more.
            begin = lines[0]['step']
            scalars = [line for line in scalars if line['step'] < begin]
        scalars += lines

    records = read_history(work_dir)
    file = osp.join(work_dir, ARCHITECTURE_FILE)
    architecture = None
    if records:
        architecture = records[-1].architecture
    elif osp.exists(file):
        architecture = Architecture.load(file)
    checkpoints = glob.glob(osp.join(work_dir, 'iter_*.pth'))
    return Search(
        work_dir,
        list(configs.values())[-1],
        [osp.basename(osp.dirname(folder)) for folder in configs],
        scalars,
        records,
        architecture,
        max(checkpoints, key=osp.getmtime, default=None),
    )


def config_name(search: Search) -> str:
    """The file name of the config, as far as it is known."""
    names = [record.notes.get('config') for record in search.records]
    return next(filter(None, reversed(names)), '') or 'a config without name'


def settings(search: Search) -> dict[str, str]:
    """What was searched on, and how."""
    cfg, hook = search.config, search_hook_config(search.config)
    loader, backbone = cfg.train_dataloader, cfg.model.backbone
    dataset = loader.dataset
    shown = {
        'Config': config_name(search),
        'Work directory': search.work_dir,
        'Dataset': dataset.get('type'),
        'Data root': dataset.get('data_root'),
        'Iterations': f'{search.iterations} of {cfg.train_cfg.max_iters}',
        'Architecture updated from iteration': hook.get('begin', 0),
        'Batch size': loader.get('batch_size'),
        'Crop (pixels)': cfg.model.get('data_preprocessor', {}).get('size'),
        'Layers, L': backbone.get('num_layers'),
        'Blocks per cell, B': backbone.get('num_blocks'),
        'Filter multiplier, F': backbone.get('filter_multiplier'),
        'Optimizer of the weights': cfg.optim_wrapper.get('optimizer'),
        'Optimizer of the architecture': hook.get('optimizer'),
        'Cost term': hook.get('cost'),
        'Terms of the loss': hook.get('terms'),
        'Seed': cfg.get('randomness', {}).get('seed'),
        'Runs': ', '.join(search.runs),
    }
    for record in reversed(search.records):
        if 'versions' in record.notes:
            versions = record.notes['versions'].items()
            shown['Versions'] = ', '.join(f'{k} {v}' for k, v in versions)
            break
    return {key: _text(v) for key, v in shown.items() if v is not None}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ', '.join(f'{k} {_text(v)}' for k, v in value.items())
    if isinstance(value, (list, tuple)):
        separator = '; ' if any(isinstance(v, dict) for v in value) else ' × '
        return separator.join(map(_text, value))
    return str(value)


def latest(search: Search) -> dict[str, str]:
    """The last values of what the curves show."""
    shown = {}
    for title, _, names in CURVES:
        for name, label in names.items():
            points = search.curve(name)
            if points:
                step, value = points[-1]
                shown[f'{title}: {label}'] = f'{value:.5g} (iteration {step})'
    miou = search.curve('mIoU')
    if miou:
        step, value = max(miou, key=lambda point: point[1])
        shown['Validation: best mIoU'] = f'{value:.5g} (iteration {step})'
    return shown


def derived_cost(search: Search) -> dict[str, str]:
    """Parameters and multiply-adds of the derived network's backbone."""
    architecture = search.architecture
    model = search.config.get('retrain', {}).get('model', {})
    backbone = model.get('backbone', {})
    searched = search.config.model.get('data_preprocessor', {}).get('size')
    shape = model.get('data_preprocessor', {}).get('size') or searched
    shape = shape or (1025, 2049)  # the paper's
    # Where the config says nothing, both have the published network's.
    widths = {
        key: backbone[key]
        for key in ('filter_multiplier', 'stem_channels')
        if key in backbone
    }
    multiply_adds, parameters = (
        round(
            expected_cost(
                cost_tables(
                    architecture.num_blocks,
                    architecture.num_layers,
                    quantity,
                    shape,
                    **widths,
                ),
                *one_hot(architecture),
            )
        )
        for quantity in QUANTITIES
    )
    pixels = _text(shape)
    return {
        'Parameters, backbone without head': f'{parameters:,}',
        f'Multiply-adds at {pixels} pixels, backbone without head': (
            f'{multiply_adds:,}'
        ),
    }
