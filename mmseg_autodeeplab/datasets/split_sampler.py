"""Endless sampling from one part of a data set."""

import hashlib
import logging
import os
import os.path as osp
from collections.abc import Iterator, Sized
from typing import Optional

import numpy as np
from mmengine.dataset import InfiniteSampler
from mmengine.logging import print_log
from mmseg.registry import DATA_SAMPLERS

from ..errors import UserError


@DATA_SAMPLERS.register_module()
class SplitInfiniteSampler(InfiniteSampler):
    """Sample endlessly from part A or part B of a data set.

    The search trains the weights on one part of the training images and the
    architecture on the other. The two parts are disjoint and complete, and
    they are a function of the images' paths, ``ratio`` and ``split_seed``
    alone: unique paths are sorted, then permuted. So every rank, a resumed
    run and another machine get the same parts, wherever the data lies and in
    whatever order it is listed, and an image that a wrapper repeats stays in
    one part.

    Within its part the order is that of ``InfiniteSampler``: one permutation
    after the other, dealt out to the ranks in turn. Each ``iter()`` starts
    anew.

    A data set without ``img_path`` is split by index, with a warning. One
    whose pipeline drops images (returns ``None``) is not kept apart, since
    ``BaseDataset`` then draws a substitute from all images.

    Args:
        dataset (Sized): The data set. Both parts are given the same one.
        part (str): 'A' for the weights or 'B' for the architecture.
        ratio (float): Fraction of the images in part A, between 0 and 1.
        split_seed (int): Seed of the split.
        shuffle (bool): Whether to shuffle within the part.
        seed (int, optional): Seed of the shuffling, the same on all ranks.
            None draws one and shares it.

    Attributes:
        part_indices (list[int]): Indices into ``dataset``, ascending.
        split_id (str): 12 hexadecimal digits that name the split, the same
            for both parts and for any ``data_root``.

    Raises:
        UserError: If an argument is invalid, a part gets no image, or the
            data set mixes images of both parts.
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
        is_ratio = isinstance(ratio, (int, float)) and 0 < ratio < 1
        is_seed = isinstance(split_seed, int) and 0 <= split_seed < 2**32
        for name, value, is_good, needed in (
            ('part', part, part in ('A', 'B'), "'A' or 'B'"),
            ('ratio', ratio, is_ratio, 'between 0 and 1'),
            ('split_seed', split_seed, is_seed, 'from 0 to 4294967295'),
        ):
            if not is_good:
                raise UserError(
                    f'{name} of SplitInfiniteSampler must be {needed}, but is '
                    f'{value!r}.'
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
        parts = {
            name: [unique[i] for i in sorted(indices)]
            for name, indices in zip('AB', np.split(order, [num_a]))
        }
        chosen = set(parts[part])
        self.part_indices = [
            i for i, identity in enumerate(identities) if identity in chosen
        ]
        root = len(osp.commonprefix(unique))
        text = '\n\n'.join(
            '\n'.join(path[root:] for path in paths)
            for paths in parts.values()
        )
        self.split_id = hashlib.sha256(os.fsencode(text)).hexdigest()[:12]

    def __iter__(self) -> Iterator[int]:
        """Indices into the data set, without end."""
        positions = InfiniteSampler(self.part_indices, self.shuffle, self.seed)
        return map(self.part_indices.__getitem__, positions)

    def __len__(self) -> int:
        """Number of samples in the part."""
        return len(self.part_indices)


def _identities(dataset):
    """Name the image behind every index of a data set."""
    _refuse_mixing(dataset)
    if hasattr(dataset, 'get_data_info'):
        paths = [
            dataset.get_data_info(i).get('img_path')
            for i in range(len(dataset))
        ]
        if all(isinstance(path, (str, os.PathLike)) for path in paths):
            # One spelling per file, so that the same image is known again.
            return [osp.abspath(path).replace('\\', '/') for path in paths]
    name = type(dataset).__name__
    if hasattr(dataset, 'dataset') or hasattr(dataset, 'datasets'):
        raise UserError(
            f'{name} cannot be split because it may repeat images and does '
            "not tell their 'img_path': wrap data sets that do, or use no "
            'wrapper.'
        )
    print_log(
        f"{name} does not tell its images' 'img_path', so it is split by "
        'index, which holds only while its order stays the same.',
        logger='current',
        level=logging.WARNING,
    )
    return [f'{i:09d}' for i in range(len(dataset))]


def _refuse_mixing(dataset):
    """Raise a UserError if one sample is made of several images."""
    pipeline = getattr(dataset, 'pipeline', None)
    # ``MultiImageMixDataset``; in other data sets the pipeline is a Compose
    # and none of its transforms is given other images.
    if isinstance(pipeline, list) and any(
        hasattr(transform, 'get_indices') for transform in pipeline
    ):
        raise UserError(
            f'{type(dataset).__name__} mixes images of both parts into one '
            'sample: remove it, or its mixing transforms, from the search.'
        )
    inner = getattr(dataset, 'datasets', None)
    for child in inner or [getattr(dataset, 'dataset', None)]:
        if child is not None:
            _refuse_mixing(child)
