"""Features that a frozen backbone gave once, in place of images."""

import os.path as osp
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError

INDEX = 'index.pth'  # written last


@DATASETS.register_module()
class CachedFeaturesDataset(Dataset):
    """Samples of a folder that :func:`save_sample` has filled.

    A sample has the features of one image or crop in ``inputs``, None for
    those that no head reads, and its labels as the model's preprocessor left
    them. Files are mapped into memory, so that processes share them.

    Args:
        folder (str): One part of a cache: ``.../train`` or ``.../val``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        file = osp.join(folder, INDEX)
        if not osp.isfile(file):
            raise UserError(
                f'{folder} holds no cached features, since {INDEX} is not '
                'there: let a stage of a search with cache_features write them'
            )
        index = torch.load(file, weights_only=True)
        self.length, self.metainfo = index['length'], index['metainfo']

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        file = sample_file(self.folder, range(self.length)[index])
        content = torch.load(file, mmap=True, weights_only=True)
        sample = SegDataSample(metainfo=content['metainfo'])
        for name, data in content['labels'].items():
            data = data.long() if data.dtype == torch.uint8 else data
            sample.set_field(PixelData(data=data), name)
        inputs = [f if f is None else f.float() for f in content['features']]
        return dict(inputs=inputs, data_samples=sample)


def sample_file(folder: str, number: int) -> str:
    """Where a sample is, counted from 0."""
    return osp.join(folder, f'{number:07d}.pth')


def save_sample(
    folder: str, number: int, features: list, sample: SegDataSample
) -> str:
    """Write a sample of :class:`CachedFeaturesDataset`; returns its file.

    Args:
        folder, number: The part of the cache, and the place within it.
        features (list[Tensor | None]): Of shape (C, H, W) each.
        sample (SegDataSample): Labels, of any kind, and metainfo.
    """
    content = dict(
        features=[f if f is None else f.cpu().clone() for f in features],
        labels={name: _small(pixels.data) for name, pixels in sample.items()},
        metainfo=plain(sample.metainfo),
    )
    file = sample_file(folder, number)
    torch.save(content, file)
    return file


def save_index(folder: str, length: int, metainfo: dict) -> None:
    """Complete a part of a cache, of so many samples of a data set."""
    index = dict(length=length, metainfo=plain(metainfo))
    torch.save(index, osp.join(folder, INDEX))


def plain(value: Any) -> Any:
    """The same without numpy, as ``torch.load`` reads it by default."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return value.tolist() if hasattr(value, 'tolist') else value


def _small(label: Tensor) -> Tensor:
    """Integers in a byte where they fit, which is read as integers."""
    label = label.cpu().clone()
    small = label.to(torch.uint8)
    fits = not label.is_floating_point() and torch.equal(small.long(), label)
    return small if fits else label
