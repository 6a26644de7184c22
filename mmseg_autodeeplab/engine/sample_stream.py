"""The data of a training as an endless stream that can be entered anywhere.

Samples are numbered as they are handed out, over all processes: in turn, each
process takes one. What sample number k is, and how it is augmented, is a
function of the seed, the part of the data and k.
"""

import copy
import itertools
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Optional

import torch
from mmengine.dist import broadcast_object_list, get_dist_info
from mmengine.runner import Runner
from mmseg.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import UserError
from .randomness import SAMPLE, seeded


class SeededDataset(Dataset):
    """Load and augment sample number k under generators of its own.

    It wraps a data set, built or as a config, and is indexed by pairs: the
    index there, and k. Each part of the data has numbers of its own.
    """

    def __init__(self, dataset: Any, seed: int, part: str) -> None:
        if isinstance(dataset, Mapping):
            dataset = DATASETS.build(copy.deepcopy(dataset))
            if hasattr(dataset, 'full_init'):
                dataset.full_init()
        self.dataset = dataset
        # For evaluators, visualizers and checkpoints.
        self.metainfo = getattr(dataset, 'metainfo', {})
        self.seed = seed
        self.key = (seed, SAMPLE, int.from_bytes(part.encode(), 'big'))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, sample: tuple[int, int]) -> Any:
        index, number = sample
        with seeded(*self.key, number):
            return self.dataset[index]


class NumberedSampler(Sampler):
    """Number what another sampler gives, from any number on, endlessly.

    It yields the pairs of :class:`SeededDataset`. The other sampler, of a
    config, deals the samples out to the processes in turn, as MMEngine's do.
    It is made anew for each pass, since an infinite one is empty the second
    time.

    Attributes:
        sampler (Sampler): The other one, for questions.
        start (int): Samples that were handed out before, over all processes.
    """

    def __init__(
        self, dataset: SeededDataset, sampler: dict, seed: Optional[int] = None
    ) -> None:
        options = dict(dataset=dataset.dataset, seed=seed)
        self._build = partial(
            DATA_SAMPLERS.build, sampler, default_args=options
        )
        self.sampler = self._build()
        if not len(self.sampler):
            raise UserError(
                f'the sampler {type(self.sampler).__name__} of '
                'train_dataloader gives no sample: check the data set and the '
                'settings of the sampler'
            )
        self.rank, self.world_size = get_dist_info()
        self.start = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        # A turn gives one sample to each process.
        first = self.start // self.world_size
        passes = map(self._pass, itertools.count())
        turns = enumerate(itertools.chain.from_iterable(passes))
        for turn, index in itertools.islice(turns, first, None):
            yield index, turn * self.world_size + self.rank

    def _pass(self, epoch):
        sampler = self._build()
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)
        return sampler


def seeded_loader(cfg: Mapping, part: str, seed: int) -> DataLoader:
    """Build a data loader whose samples are a function of their number.

    Args:
        cfg (Mapping): Config of a data loader. Its data set may be built, and
            is shared then.
        part (str): Name of the part of the data, for the numbers.
        seed (int): Seed of the run; that of the first process counts.

    Returns:
        DataLoader: ``sampler.sampler`` is the sampler of the config.
    """
    if not isinstance(cfg, Mapping):
        raise UserError(
            f'train_dataloader is a {type(cfg).__name__}, but has to be a '
            'config, since the data set is wrapped before the loader is built'
        )
    seeds = [seed]
    broadcast_object_list(seeds)
    cfg, dataset = copy.copy(cfg), cfg['dataset']

    def seeded_dataset():
        return SeededDataset(dataset, seeds[0], part)

    # A function, since the runner copies whatever else a config holds.
    cfg['dataset'] = dict(type=seeded_dataset)
    cfg['sampler'] = dict(type=NumberedSampler, sampler=cfg['sampler'])
    return Runner.build_dataloader(cfg, seed=seeds[0])


class SampleStream(Iterator):
    """Endless batches of a :func:`seeded_loader`, from any position on.

    Attributes:
        position (int): Samples handed out so far, over all processes.
        batch_size (int): Samples of a batch, over all processes.
    """

    def __init__(self, loader: DataLoader, position: int = 0) -> None:
        self.loader = loader
        self.position = position
        self.batch_size = loader.batch_size * loader.sampler.world_size
        self._batches = None

    def __next__(self) -> Any:
        if self._batches is None:
            self.loader.sampler.start = self.position
            # It draws a number, wherever the stream is entered.
            with torch.random.fork_rng(devices=[]):
                self._batches = iter(self.loader)
        batch = next(self._batches)
        self.position += self.batch_size
        return batch
