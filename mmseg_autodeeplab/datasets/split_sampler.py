"""Endless sampling from one part of a data set."""

import hashlib
import os
import os.path as osp
from collections.abc import Iterator, Sized
from functools import cache
from typing import Optional

import numpy as np
from mmengine.dataset import InfiniteSampler
from mmengine.logging import MMLogger
from mmseg.registry import DATA_SAMPLERS

from ..errors import UserError


@DATA_SAMPLERS.register_module()
class SplitInfiniteSampler(InfiniteSampler):
    """Sample endlessly from part A or part B of a data set.

    The search trains the weights on part A of the training images and the
    architecture on part B. The parts are disjoint and complete, and a function
    of the images' paths, ``ratio`` and ``split_seed`` alone: the same on every
    rank, in a resumed run and on another machine. An image stays in one part
    where a wrapper repeats it and where several paths link to it. Within a
    part the order is that of ``InfiniteSampler``, from the beginning at each
    ``iter()``. A data set without ``img_path`` is split by index, with a
    warning.

    Args:
        dataset (Sized): All images, for either part.
        part (str): 'A' or 'B'.
        ratio (float): Fraction of the images in part A, between 0 and 1.
        split_seed (int): Seed of the split.
        shuffle, seed: As of ``InfiniteSampler``.

    Attributes:
        part_indices (list[int]): Indices into ``dataset``, ascending.
        split_id (str): Names the split, for both parts and any ``data_root``.
    """

    def __init__(
        self,
        dataset: Sized,
        part: str = 'A',
        ratio: float = 0.5,
        split_seed: int = 0,
        shuffle: bool = True,
        seed: Optional[int] = None,
    ) -> None:
        if not (
            part in ('A', 'B')
            and isinstance(ratio, (int, float))
            and 0 < ratio < 1
            and isinstance(split_seed, int)
            and 0 <= split_seed < 2**32
        ):
            raise UserError(
                "SplitInfiniteSampler needs part='A' or part='B', a ratio "
                'between 0 and 1 and a split_seed from 0 to 4294967295, but '
                f'got {part=}, {ratio=} and {split_seed=}.'
            )
        super().__init__(dataset, shuffle, seed)
        self.part = part

        identities = _identities(dataset)
        unique = sorted(set(identities))
        num_a = round(len(unique) * ratio)
        if not 0 < num_a < len(unique):
            raise UserError(
                f'A split of {len(unique)} images with ratio {ratio} leaves a '
                'part without an image: use more images or another ratio.'
            )
        # RandomState's stream is frozen across numpy versions.
        order = np.random.RandomState(split_seed).permutation(len(unique))
        parts = [
            [unique[i] for i in sorted(indices)]
            for indices in np.split(order, [num_a])
        ]
        own = set(parts['AB'.index(part)])
        self.part_indices = [i for i, x in enumerate(identities) if x in own]
        root = len(osp.commonprefix(unique))
        texts = ('\n'.join(path[root:] for path in paths) for paths in parts)
        content = os.fsencode('\n\n'.join(texts))
        self.split_id = hashlib.sha256(content).hexdigest()[:12]

    def __iter__(self) -> Iterator[int]:
        positions = InfiniteSampler(self.part_indices, self.shuffle, self.seed)
        return map(self.part_indices.__getitem__, positions)

    def __len__(self) -> int:
        return len(self.part_indices)


def _identities(dataset):
    """Name the image behind every index of a data set."""
    _refuse_mixing(dataset)
    if hasattr(dataset, 'get_data_info'):
        infos = (dataset.get_data_info(i) for i in range(len(dataset)))
        paths = [info.get('img_path') for info in infos]
        if all(isinstance(path, (str, os.PathLike)) for path in paths):
            return _one_name_per_file(paths)
    name = type(dataset).__name__
    if _inner(dataset):
        raise UserError(
            f'{name} cannot be split because it may repeat images and does '
            "not tell their 'img_path': wrap data sets that do, or use no "
            'wrapper.'
        )
    MMLogger.get_current_instance().warning(
        f"{name} does not tell its images' 'img_path', so it is split by "
        'index, which holds only while its order stays the same.'
    )
    return [f'{i:09d}' for i in range(len(dataset))]


def _one_name_per_file(paths):
    """Name files by their paths, and links to one file by the first."""
    names = [osp.abspath(path).replace('\\', '/') for path in paths]
    real_folder = cache(osp.realpath)
    files = [_file_behind(path, real_folder) for path in paths]
    # Names and not what they link to: a split is that of any other machine.
    pairs = sorted(zip(names, files), key=lambda pair: pair[0], reverse=True)
    first = {file: name for name, file in pairs}  # The last one stays.
    return [first[file] for file in files]


def _file_behind(path, real_folder):
    """What all links to a file have in common."""
    try:
        stat = os.stat(path)
    except OSError:  # Not a local file.
        return osp.abspath(path)
    if stat.st_nlink > 1:
        return stat.st_dev, stat.st_ino
    if osp.islink(path):
        return osp.realpath(path)
    folder, name = osp.split(path)
    return osp.join(real_folder(folder), name)


def _refuse_mixing(dataset):
    """Raise a UserError if one sample is made of several images."""
    pipeline = getattr(dataset, 'pipeline', None)
    # As in MultiImageMixDataset; elsewhere it is a Compose, and none mixes.
    if isinstance(pipeline, list) and any(
        hasattr(transform, 'get_indices') for transform in pipeline
    ):
        raise UserError(
            f'{type(dataset).__name__} mixes images of both parts into one '
            'sample: remove it, or its mixing transforms, from the search.'
        )
    for inner in _inner(dataset):
        _refuse_mixing(inner)


def _inner(dataset):
    """What a wrapper wraps."""
    one = [dataset.dataset] if hasattr(dataset, 'dataset') else []
    return getattr(dataset, 'datasets', one)
