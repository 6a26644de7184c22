"""Whether the data of a config is right, before anything is built."""

import inspect
import os.path as osp
from pathlib import Path

from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmengine.utils import scandir
from mmseg.registry import DATASETS

from ..compat.registry import resolve
from ..datasets import check_pipelines
from ..errors import UserError


def check_data(cfg: Config, *parts: str) -> None:
    """Raise a :class:`UserError` where images or labels are missing.

    MMEngine builds the validation set when training is about to start, reads
    labels when it needs them, and waits forever for an image of an empty
    folder. Of ``'train'``, ``'val'`` and ``'test'``, the last needs no labels.
    """
    for part in parts:
        for key, dataset in _datasets(cfg, part):
            _check_dataset(dataset, key, labels=part != 'test')


def check_loading(cfg: Config, *parts: str) -> None:
    """Let data sets, of the classes of the model, check what they read.

    The stock transforms that load images and labels give way, in place, to
    those of :mod:`mmseg_autodeeplab.datasets.loading`, which load the same.
    """
    head = cfg.model.get('module', cfg.model).get('decode_head') or {}
    if isinstance(head, (list, tuple)):  # Of a cascade, the last predicts.
        head = head[-1]
    num_classes = head.get('num_classes')
    for part in parts:
        for _, dataset in _datasets(cfg, part):
            _check_classes(dataset, num_classes)
        check_pipelines(
            cfg.get(f'{part}_dataloader'),
            # One logit tells two classes apart.
            num_classes and max(num_classes, 2),
            head.get('ignore_index', 255),
        )


def _datasets(cfg, part):
    """Yield the data sets within wrappers, after their keys in the config."""
    key = f'{part}_dataloader'
    found = [(f'{key}.dataset', cfg[key].dataset)] if cfg.get(key) else []
    for key, dataset in found:
        if 'datasets' in dataset:
            for i, inner in enumerate(dataset['datasets']):
                found.append((f'{key}.datasets.{i}', inner))
        elif 'dataset' in dataset:
            found.append((f'{key}.dataset', dataset['dataset']))
        else:
            yield key, dataset


def _check_dataset(dataset, key, labels):
    # Where there is none, the runner will say so.
    cls = resolve(DATASETS, dataset['type'])
    backend = (dataset.get('backend_args') or {}).get('backend', 'local')
    if backend != 'local' or getattr(cls, 'generates_data', False):
        return
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix') or {}
    ann_file = osp.join(root, dataset.get('ann_file') or '')
    folders = {
        name: osp.join(root, path)
        for name, path in prefix.items()
        if path is not None and (labels or name.startswith('img'))
    }
    for path in (root, ann_file, *folders.values()):
        if path and '://' not in path and not osp.exists(path):
            raise UserError(
                f'{path} does not exist: check data_root and data_prefix of '
                f'{key}, or pass --cfg-options {key}.data_root=FOLDER'
            )
    if osp.isfile(ann_file) and not Path(ann_file).read_bytes().strip():
        raise UserError(f'{ann_file} lists no image: check ann_file of {key}')
    images = folders.get('img_path')
    if images and '://' not in images and not dataset.get('ann_file'):
        suffix = dataset.get('img_suffix')
        if not suffix and cls:
            default = inspect.signature(cls).parameters.get('img_suffix')
            suffix = default and default.default
        if suffix and not any(scandir(images, suffix, recursive=True)):
            raise UserError(
                f'{images} has no file that ends in {suffix}: check '
                f'data_root, data_prefix and img_suffix of {key}'
            )


def _check_classes(dataset, num_classes):
    cls = resolve(DATASETS, dataset['type'])
    metainfo = dataset.get('metainfo') or {}
    classes = {**getattr(cls, 'METAINFO', {}), **metainfo}.get('classes')
    if isinstance(classes, str):  # The name of a file.
        classes = list_from_file(classes)
    # A head of one class may be for one of two.
    if classes and num_classes not in (None, 1, len(classes)):
        raise UserError(
            f'the model has num_classes={num_classes}, but '
            f'{getattr(cls, "__name__", cls)} has {len(classes)} classes: set '
            f'model.decode_head.num_classes={len(classes)}, or choose classes '
            'by metainfo of the dataset'
        )
