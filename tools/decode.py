"""Turn a search checkpoint into an architecture and a config to retrain it."""

import argparse
import copy
import datetime
import os.path as osp
import tempfile
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.arch import (
    RATES,
    Architecture,
    decode,
)
from mmseg_autodeeplab.errors import UserError, one_line
from mmseg_autodeeplab.files import write_atomically
from mmseg_autodeeplab.visualization import drawing_files, save_drawings

BASES = Path(__file__).resolve().parents[1] / 'configs' / '_base_'

# What of a search config says how it was searched, not on what ...
SEARCH_KEYS = (
    'model',
    'optim_wrapper',
    'param_scheduler',
    'train_cfg',
    'default_hooks',
    'work_dir',
    'resume',
    'load_from',
    'launcher',
    'model_wrapper_cfg',
)
# ... and variables of configs, whose values stand where they were used.
VARIABLES = (
    'crop_size',
    'data_preprocessor',
    'data_root',
    'dataset_type',
    'img_ratios',
    'max_iters',
    'norm_cfg',
    'test_pipeline',
    'train_pipeline',
)
# Hooks of a search: EMAHook has the averages of a supernet there.
SEARCH_HOOKS = ('ArchSearchHook', 'EMAHook')


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'checkpoint', help='checkpoint of a search, iter_*.pth'
    )
    parser.add_argument(
        '--out-dir',
        help='folder for architecture.json, retrain.py and the drawings; by '
        'default decoded/ beside the checkpoint',
    )
    parser.add_argument(
        '--random',
        type=int,
        metavar='SEED',
        help='draw a random architecture from the space that was searched '
        'instead: the baseline, with the same retraining',
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help='replace these files where they exist',
    )
    return parser.parse_args()


def load_search(file):
    """Read a search checkpoint.

    Returns:
        tuple[Architecture, Config]: What its alphas and betas decode to, and
        the config of the search.
    """
    checkpoint = cli.read_checkpoint(file)
    try:
        weights = checkpoint['state_dict']
        alphas, betas = (
            as_array(weights[f'backbone.{name}'])
            for name in ('alphas', 'betas')
        )
        meta = checkpoint['meta']
        iteration = meta.get('iter')
        if not isinstance(iteration, (int, type(None))):
            raise TypeError(f'iter is of type {type(iteration).__name__}')
        cfg = read_config(meta['cfg'])
    except (KeyError, TypeError) as error:
        raise UserError(
            f'{file} is not the checkpoint of a search ({one_line(error)}); '
            'give an iter_*.pth that tools/train.py wrote with a search '
            'config.'
        ) from error
    try:
        architecture = decode(alphas, betas)
    except ValueError as error:
        raise UserError(f'{file}: {error}') from error
    return architecture.with_provenance(
        checkpoint=osp.basename(file),
        iteration=iteration,
        date=datetime.datetime.now().isoformat(timespec='seconds'),
    ), cfg


def as_array(weight):
    """A parameter as an array of floats."""
    if not isinstance(weight, torch.Tensor) or not weight.is_floating_point():
        raise TypeError('alphas and betas must be tensors of floats')
    return weight.detach().float().numpy()


def read_config(text):
    """The config of a search, as its checkpoint has it.

    Raises:
        TypeError: It is none.
    """
    # Config.fromstring would leave a file behind where the text is broken.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'search.py')
        try:
            file.write_text(text, encoding='utf-8')
            cfg = Config.fromfile(file)
        except Exception as error:  # A config is code: anything may go wrong.
            raise TypeError(f'its config has a {one_line(error)}') from error
    for key in ('data_preprocessor', 'test_cfg', 'decode_head'):
        if not isinstance(cfg.get('model'), dict) or key not in cfg.model:
            raise TypeError(f'its config has no model.{key}')
    if not isinstance(cfg.get('train_dataloader'), dict):
        raise TypeError('its config has no train_dataloader')
    return cfg


def build_retrain_config(search: Config, architecture: Architecture) -> Config:
    """Write the config that retrains an architecture where it was searched.

    Data, evaluation and runtime are those of the search, on the whole
    training set; model and schedule are the published network's; what the
    search config has under ``retrain`` is merged over all of it.

    Args:
        search (Config): The config of the search.
        architecture (Architecture): What it found.
    """
    model = Config.fromfile(BASES / 'models' / 'autodeeplab.py')
    schedule = Config.fromfile(BASES / 'schedules' / 'retrain.py')
    cfg = Config(
        {
            k: copy.deepcopy(v)
            for k, v in search.items()
            if k not in SEARCH_KEYS + VARIABLES and not k.startswith('retrain')
        }
    )
    schedule.pop('max_iters')
    cfg.update(schedule.to_dict())
    cfg.custom_hooks = [
        hook
        for hook in cfg.get('custom_hooks', [])
        if hook['type'] not in SEARCH_HOOKS
    ]
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    for part in ('val', 'test'):
        if search.get(f'{part}_dataloader') is None:
            cfg[f'{part}_cfg'] = None

    cfg.model = model.model
    cfg.model.data_preprocessor = search.model.data_preprocessor
    cfg.model.test_cfg = search.model.test_cfg
    backbone, head = cfg.model.backbone, cfg.model.decode_head
    backbone.arch = architecture.content()
    for key in ('num_classes', 'out_channels', 'ignore_index', 'loss_decode'):
        if key in search.model.decode_head:
            head[key] = search.model.decode_head[key]
    # These follow from the path, unless the config has a say.
    del head['in_channels'], head['dilations']

    cfg.merge_from_dict(search.get('retrain', {}))
    # The one variable that mmseg.apis reads, as it is after the merge.
    for part in ('val', 'test'):
        loader = cfg.get(f'{part}_dataloader') or {}
        pipeline = loader.get('dataset', {}).get('pipeline')
        if pipeline is not None:
            cfg.test_pipeline = copy.deepcopy(pipeline)

    built = MODELS.build(cfg.model.backbone)
    head = cfg.model.decode_head
    if head.type == 'AutoDeepLabHead':
        stride = RATES[architecture.stages[-1].level]
        head.setdefault('in_channels', built.out_channels)
        # 12, 24, 36 at stride 8.
        head.setdefault('dilations', [96 // stride * k for k in (1, 2, 3)])
    return cfg


@cli.user_errors()
def main():
    args = parse_args()
    init_default_scope('mmseg')
    architecture, search = load_search(args.checkpoint)
    if args.random is not None:
        drawn = architecture.space().random(args.random)
        architecture = drawn.with_provenance(
            checkpoint=osp.basename(args.checkpoint)
        )
    out_dir = args.out_dir or osp.join(osp.dirname(args.checkpoint), 'decoded')
    json_file = osp.join(out_dir, 'architecture.json')
    config_file = osp.join(out_dir, 'retrain.py')
    drawings = drawing_files(architecture, out_dir)
    for file in (json_file, config_file, *drawings):
        if osp.exists(file) and not args.force:
            raise UserError(
                f'{file} exists already; give another --out-dir, '
                'or --force to replace it.'
            )

    cfg = build_retrain_config(search, architecture)
    cfg.work_dir = osp.join(out_dir, 'retrain')
    text = (
        '# Written by tools/decode.py, from\n'
        f'# {dict(architecture.provenance)}\n{cfg.pretty_text}'
    )
    architecture.dump(json_file)
    write_atomically(config_file, text)

    save_drawings(architecture, out_dir)

    print(
        f'{architecture.describe()}\n\n'
        f'Written: {", ".join([json_file, config_file, *drawings])}\n\n'
        'Retrain it and test the result with\n\n'
        f'python tools/train.py {config_file}'
    )
    if cfg.get('test_dataloader') is not None:
        weights = osp.join(cfg.work_dir, f'iter_{cfg.train_cfg.max_iters}.pth')
        print(f'python tools/test.py {config_file} {weights}')
    else:
        print('(the search config has no test_dataloader to test it on)')


if __name__ == '__main__':
    main()
