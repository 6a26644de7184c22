"""Whether the data of a config is there, before anything is built."""

import inspect
import os.path as osp

from mmengine.utils import scandir
from mmseg.registry import DATASETS

from ..errors import UserError


def check_data(cfg, *parts):
    """Look for the data before anything is built.

    MMEngine builds the validation set when training is about to start, reads
    labels when it needs them, and waits forever for an image of an empty
    folder.

    Args:
        cfg (Config): The config.
        parts (str): Which of ``'train'``, ``'val'`` and ``'test'``. The test
            part may lack its labels.

    Raises:
        UserError: A folder or file is missing, or a folder has no image.
    """
    for part in parts:
        loader = cfg.get(f'{part}_dataloader')
        if loader is not None:
            for key, dataset in _datasets(
                loader.dataset, f'{part}_dataloader.dataset'
            ):
                _check_dataset(dataset, key, labels=part != 'test')


def _datasets(dataset, key):
    """Yield the datasets within wrappers, and their keys in the config."""
    if 'datasets' in dataset:
        for i, inner in enumerate(dataset['datasets']):
            yield from _datasets(inner, f'{key}.datasets.{i}')
    elif 'dataset' in dataset:
        yield from _datasets(dataset['dataset'], f'{key}.dataset')
    else:
        yield key, dataset


def _check_dataset(dataset, key, labels):
    cls = dataset['type']
    if isinstance(cls, str):
        cls = DATASETS.get(cls)  # None is for the runner to complain about.
    backend = (dataset.get('backend_args') or {}).get('backend', 'local')
    if backend != 'local' or getattr(cls, 'generates_data', False):
        return
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix') or {}
    paths = [root, osp.join(root, dataset.get('ann_file') or '')] + [
        osp.join(root, path)
        for name, path in prefix.items()
        if path is not None and (labels or name.startswith('img'))
    ]
    for path in paths:
        if path and '://' not in path and not osp.exists(path):
            raise UserError(
                f'{path} does not exist: check data_root and data_prefix of '
                f'{key}, or pass --cfg-options {key}.data_root=FOLDER'
            )

    ann_file = osp.join(root, dataset.get('ann_file') or '')
    if osp.isfile(ann_file):
        with open(ann_file, 'rb') as file:
            if not file.read().strip():
                raise UserError(
                    f'{ann_file} lists no image: check ann_file of {key}'
                )

    images = prefix.get('img_path')
    suffix = dataset.get('img_suffix') or _default(cls, 'img_suffix')
    if images is None or suffix is None or dataset.get('ann_file'):
        return
    images = osp.join(root, images)
    if (
        '://' not in images
        and next(scandir(images, suffix, recursive=True), None) is None
    ):
        raise UserError(
            f'{images} has no file that ends in {suffix}: check '
            f'data_root, data_prefix and img_suffix of {key}'
        )


def _default(cls, name):
    parameter = inspect.signature(cls).parameters.get(name) if cls else None
    return parameter and parameter.default
