"""Samples are a function of their number."""

import random
import threading

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.registry import init_default_scope

from mmseg_autodeeplab.engine import (
    SampleStream,
    SeededDataset,
    seeded_loader,
)
from mmseg_autodeeplab.engine.randomness import seed_everything, seeded
from mmseg_autodeeplab.errors import UserError


def draw():
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(),
        torch.rand(1).item(),
    )


def test_numbers_are_a_function_of_the_key():
    seed_everything(1, 2, 3)
    expected = draw()
    for key in ((1, 2), (1, 2, 4), (3, 2, 1)):
        seed_everything(*key)
        assert not set(draw()) & set(expected)
    seed_everything(1, 2, 3)
    assert draw() == expected


def test_the_generators_come_back():
    seed_everything(0)
    draw()  # An odd number of normal draws: a second one is kept for later.
    expected = draw()
    seed_everything(0)
    draw()
    with pytest.raises(ZeroDivisionError), seeded(5):
        found = draw()
        raise ZeroDivisionError
    assert draw() == expected
    seed_everything(5)
    assert draw() == found


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Seven images of 64 x 128 with labels of 19 classes."""
    folder = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for i in range(7):
        image = rng.integers(256, size=(8, 16, 3), dtype=np.uint8)
        label = rng.integers(19, size=(8, 16), dtype=np.uint8)
        for name, array in ((f'{i}.jpg', image), (f'{i}.png', label)):
            array = cv2.resize(
                array, (128, 64), interpolation=cv2.INTER_NEAREST
            )
            cv2.imwrite(str(folder / name), array)
    return folder


def loader_config(folder, batch_size=4, num_workers=0):
    """The pipeline of MMSegmentation's Cityscapes, on small images."""
    init_default_scope('mmseg')
    crop_size = (32, 64)
    return dict(
        batch_size=batch_size,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        sampler=dict(type='InfiniteSampler', shuffle=True),
        dataset=dict(
            type='BaseSegDataset',
            data_root=str(folder),
            metainfo=dict(classes=[str(i) for i in range(19)]),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations'),
                dict(
                    type='RandomResize',
                    scale=(128, 64),
                    ratio_range=(0.5, 2.0),
                    keep_ratio=True,
                ),
                dict(
                    type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75
                ),
                dict(type='RandomFlip', prob=0.5),
                dict(type='PhotoMetricDistortion'),
                dict(type='PackSegInputs'),
            ],
        ),
    )


def images(batch):
    """Pixels, labels and files of a batch, in a form that can be compared."""
    return [
        (
            sample.img_path,
            image.numpy().tobytes(),
            sample.gt_sem_seg.data.numpy().tobytes(),
        )
        for image, sample in zip(batch['inputs'], batch['data_samples'])
    ]


def batches(cfg, count, position=0, part='A', seed=3):
    stream = SampleStream(seeded_loader(cfg, part, seed), position)
    return [images(next(stream)) for _ in range(count)]


def test_a_batch_is_the_same_from_any_position(folder):
    expected = batches(loader_config(folder), 6)
    assert batches(loader_config(folder), 2, position=16) == expected[4:]
    # It draws no number that others would miss.
    seed_everything(0)
    first = draw()
    seed_everything(0)
    assert batches(loader_config(folder), 1) == expected[:1]
    assert draw() == first


def test_parts_seeds_and_passes_differ(folder):
    cfg = loader_config(folder, batch_size=7)
    first, second = batches(cfg, 2)
    by_file = {sample[0]: sample for sample in first}
    # The same images, in another order and augmented otherwise.
    assert sorted(by_file) == sorted({sample[0] for sample in second})
    for others in (
        second,
        *batches(cfg, 1, part='B'),
        *batches(cfg, 1, seed=4),
    ):
        assert all(by_file[sample[0]] != sample for sample in others)


def test_the_order_is_the_sampler_s(folder):
    loader = seeded_loader(loader_config(folder), 'A', 3)
    data = loader.dataset.dataset
    expected = iter(InfiniteSampler(data, seed=3))
    files = [sample[0] for batch in batches(loader_config(folder), 5)
             for sample in batch]  # fmt: skip
    assert files == [data[next(expected)]['data_samples'].img_path
                     for _ in files]  # fmt: skip
    assert loader.sampler.sampler.seed == 3


def test_a_built_loader_cannot_be_wrapped(folder):
    loader = seeded_loader(loader_config(folder), 'A', 3)
    with pytest.raises(UserError, match='is a DataLoader, but has to be a'):
        seeded_loader(loader, 'A', 3)


def test_a_built_data_set_is_shared(folder):
    data = seeded_loader(loader_config(folder), 'A', 3).dataset.dataset
    data.handle = threading.Lock()  # As of a database: there is no copy.
    cfg = dict(loader_config(folder), dataset=data)
    loader = seeded_loader(cfg, 'A', 3)
    assert loader.dataset.dataset is data
    assert batches(cfg, 2) == batches(loader_config(folder), 2)


@pytest.mark.run
@pytest.mark.parametrize('workers', [1, 3])
def test_workers_change_nothing(folder, workers):
    expected = batches(loader_config(folder), 4)
    cfg = loader_config(folder, num_workers=workers)
    assert batches(cfg, 4) == expected
    # In the middle of what the workers have loaded ahead.
    loader = seeded_loader(cfg, 'A', 3)
    next(SampleStream(loader))
    assert images(next(SampleStream(loader, 12))) == expected[3]


def test_augmentation_is_a_function_of_seed_part_and_number():
    """Of all three, where the image is the same."""

    class Noise(list):
        def __getitem__(self, index):
            return draw()

    def noise(seed, part, number, index=0):
        return SeededDataset(Noise([0]), seed, part)[index, number]

    expected = noise(3, 'A', 5)
    assert noise(3, 'A', 5, index=1) == expected
    for other in ((4, 'A', 5), (3, 'B', 5), (3, 'A', 6)):
        assert not set(noise(*other)) & set(expected)


def test_every_pass_of_a_finite_sampler_has_its_own_order(folder):
    cfg = loader_config(folder, batch_size=7)
    cfg['sampler'] = dict(type='DefaultSampler', shuffle=True)
    data = seeded_loader(cfg, 'A', 3).dataset.dataset
    sampler = DefaultSampler(data, shuffle=True, seed=3)
    passes = []
    for epoch, batch in enumerate(batches(cfg, 3)):
        sampler.set_epoch(epoch)
        passes.append([sample[0] for sample in batch])
        assert passes[-1] == [data.get_data_info(i)['img_path']
                              for i in sampler]  # fmt: skip
    assert passes[0] != passes[1] != passes[2]


def work(rank, data, count):
    # Of the seeds, that of the first process counts.
    return batches(loader_config(data, batch_size=2), count, seed=3 + rank)


@pytest.mark.run
def test_two_processes_at_half_the_batch_see_the_same_images(
    folder, two_ranks
):
    """Pixel for pixel: sample k is the turn of process k modulo 2."""
    count = 20
    ranks = two_ranks.run(work, str(folder), count)
    for whole, *halves in zip(batches(loader_config(folder), count), *ranks):
        assert [whole[0::2], whole[1::2]] == halves
