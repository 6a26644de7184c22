"""Whether the data of a config is right, before anything is built."""

import inspect
import os
import os.path as osp
from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import list_from_file
from mmengine.utils import scandir
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS, TRANSFORMS

from ..compat.registry import is_a, resolve
from ..datasets import check_pipelines, transforms_in
from ..errors import UserError

# Settings of a data loader that PyTorch refuses without workers.
OF_WORKERS = ('persistent_workers', 'prefetch_factor')


def check_data(cfg: Config, *parts: str) -> None:
    """Raise a :class:`UserError` where images or labels are missing.

    MMEngine builds the validation set when training is about to start, reads
    images and labels when it needs them, which may be hours later, and waits
    forever for an image of an empty folder. Of ``'train'``, ``'val'`` and
    ``'test'``, the last may do without labels.
    """
    for part in parts:
        loader = cfg.get(f'{part}_dataloader') or {}
        for name in OF_WORKERS:
            if loader.get(name) and not loader.get('num_workers'):
                raise UserError(
                    f'{part}_dataloader has {name}={loader[name]}, but no '
                    'worker (num_workers=0): pass --cfg-options '
                    f'{part}_dataloader.{name}=None, or have num_workers=1'
                )
        for key, dataset in _datasets(cfg, part):
            labels = part != 'test' or any(
                is_a(TRANSFORMS, transform, LoadAnnotations)
                for transform, _ in transforms_in(dataset.get('pipeline'))
            )
            _check_dataset(dataset, key, labels)


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
    if osp.isfile(ann_file):
        _check_list(ann_file, cls, key)
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
    if isinstance(cls, type) and issubclass(cls, BaseDataset):
        _check_files(dataset, key, labels)


def _check_list(file, cls, key):
    """Of images, which BaseSegDataset reads line by line."""
    content = Path(file).read_bytes()
    if not content.strip():
        raise UserError(f'{file} lists no image: check ann_file of {key}')
    reader = getattr(cls, 'load_data_list', None)
    if reader is not BaseSegDataset.load_data_list:
        return
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise UserError(
            f'{file} is not in UTF-8 ({error}): save it in that encoding'
        ) from error
    if lines[0].startswith('\ufeff'):
        raise UserError(
            f'{file} begins with a byte order mark, which would be part of '
            'the first name: save it in UTF-8 without one'
        )
    for i, line in enumerate(lines, 1):
        if not line.strip():
            raise UserError(
                f'line {i} of {file} is blank, which would be an image '
                'without a name: delete the line'
            )


def _check_files(dataset, key, labels):
    """What is listed is there, by the names in its folders."""
    transforms = [found for found, _ in transforms_in(dataset.get('pipeline'))]
    if transforms:
        dataset = dict(dataset, pipeline=[])
    listed = DATASETS.build(dataset)
    listed.full_init()
    infos = [listed.get_data_info(i) for i in range(len(listed))]
    kinds = ['seg_map_path'] if labels else []
    if not any(transform.get('ignore_empty') for transform in transforms):
        kinds.append('img_path')
    paths = [info[k] for info in infos for k in kinds if info.get(k)]
    missing = _missing(paths)
    if missing:
        others = f' and {len(missing) - 1} more' * (len(missing) > 1)
        raise UserError(
            f'{missing[0]}{others}, of the {len(paths)} files that {key} '
            'lists, cannot be found: add them, or check data_prefix, '
            'img_suffix, seg_map_suffix and ann_file'
        )


def _missing(paths: Iterable[str]) -> list[str]:
    """The local ones that are no file; a folder is listed once."""
    names = {}
    missing = []
    for path in paths:
        folder, name = osp.split(path)
        if folder not in names:
            names[folder] = _files_in(folder)
        # Some file systems know a name by other spellings.
        known = name in names[folder] or '://' in path
        if not known and not osp.isfile(path):
            missing.append(path)
    return missing


def _files_in(folder):
    try:
        with os.scandir(folder or '.') as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:  # Each file is asked for then.
        return set()


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
