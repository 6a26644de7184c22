import errno
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

import mmseg_autodeeplab  # noqa: F401  # isort: skip
from mmseg.registry import DATASETS

from mmseg_autodeeplab.datasets import ShapesDataset, shapes
from mmseg_autodeeplab.errors import UserError

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]


def contents(folder):
    """Bytes of every file under a folder, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def draw(outlined):
    """200 scenes: images (200, 96, 128, 3) and labels (200, 96, 128)."""
    images, labels = zip(
        *(
            shapes.draw_scene((96, 128), [0, 0, i], outlined)
            for i in range(200)
        )
    )
    return np.stack(images), np.stack(labels)


@pytest.fixture(scope='module')
def filled():
    return draw(False)


@pytest.fixture(scope='module')
def outlined():
    return draw(True)


@pytest.fixture(params=['filled', 'outlined'])
def scenes(request):
    return request.getfixturevalue(request.param)


def test_files_fit_stock_transforms(tmp_path):
    dataset = DATASETS.build(
        dict(
            type='ShapesDataset',
            data_root=str(tmp_path),
            num_images=3,
            size=(64, 80),
            pipeline=PIPELINE,
        )
    )
    assert len(dataset) == 3
    item = dataset[1]
    assert item['inputs'].shape == (3, 64, 80)
    image, label = shapes.draw_scene((64, 80), [0, 0, 1])
    assert np.array_equal(item['inputs'].numpy().transpose(1, 2, 0), image)
    assert np.array_equal(item['data_samples'].gt_sem_seg.data[0], label)
    stored = cv2.imread(
        dataset[1]['data_samples'].seg_map_path, cv2.IMREAD_UNCHANGED
    )
    assert stored.shape == (64, 80) and stored.dtype == np.uint8


@pytest.mark.parametrize(
    'outlined, expected',
    [(False, 'eda48dd2c73ae3dd'), (True, '57e1d58f64914a7f')],
)
def test_pixels_are_pinned(outlined, expected):
    digest = hashlib.sha256()
    for size, entropy in (((96, 128), [0, 0, 0]), ((97, 131), [1, 2, 3])):
        for array in shapes.draw_scene(size, entropy, outlined):
            digest.update(array.tobytes())
    assert digest.hexdigest()[:16] == expected


def test_same_arguments_write_the_same_files(tmp_path):
    for name in 'ab':
        ShapesDataset(num_images=4, seed=7, data_root=str(tmp_path / name))
    ShapesDataset(num_images=2, seed=7, data_root=str(tmp_path / 'c'))
    a, b, c = (contents(tmp_path / name / 'train') for name in 'abc')
    assert a == b
    # A smaller set is the beginning of a larger one.
    assert all(a[key] == c[key] for key in c if key.endswith('.png'))


def test_splits_and_seeds_share_no_scene(tmp_path):
    images = []
    for seed in (0, 1):
        for split in ('train', 'val', 'test'):
            root = tmp_path / str(seed)
            ShapesDataset(split, 5, (64, 64), seed, data_root=str(root))
            files = contents(root / split / 'images')
            assert len(files) == 5
            images.extend(files.values())
    assert len(set(images)) == 30


def test_classes_are_frequent_enough(scenes):
    labels = scenes[1]
    pixels = np.bincount(labels.ravel(), minlength=6) / labels.size
    assert len(pixels) == len(ShapesDataset.METAINFO['classes']) == 6
    assert pixels[0] < 0.8 and pixels.min() > 0.0145
    for index in range(6):
        assert (labels == index).any((1, 2)).mean() > 0.35


def dot_patches(images, labels, kind):
    """9 x 9 patches around the centres of all dots of a kind."""
    patches, areas = [], []
    for image, label in zip(images, labels):
        num, _, stats, centres = cv2.connectedComponentsWithStats(
            (label == kind).astype(np.uint8)
        )
        for i in range(1, num):
            x, y = np.rint(centres[i]).astype(int)
            patches.append(image[y - 4 : y + 5, x - 4 : x + 5])
            areas.append(stats[i, cv2.CC_STAT_AREA])
    return np.stack(patches).astype(float), np.array(areas)


def test_a_dot_is_known_by_what_it_lies_on_alone(scenes):
    (pebbles, small), (buttons, large) = (
        dot_patches(*scenes, kind) for kind in (shapes.PEBBLE, shapes.BUTTON)
    )
    assert min(len(pebbles), len(buttons)) > 200
    # Colour, texture and size have the same distribution in both classes:
    # their means differ by less than four standard errors.
    for one, two in (
        (pebbles.mean((1, 2)), buttons.mean((1, 2))),
        (pebbles.std((1, 2)), buttons.std((1, 2))),
        (small[:, None], large[:, None]),
    ):
        error = (one.var(0) / len(one) + two.var(0) / len(two)) ** 0.5
        assert (abs(one.mean(0) - two.mean(0)) < 4 * error).all()
    # What lies around a dot tells: ground or a shape, never both.
    for label in scenes[1]:
        for kind in (shapes.PEBBLE, shapes.BUTTON):
            dots = (label == kind).astype(np.uint8)
            rim = cv2.dilate(dots, np.ones((5, 5), np.uint8)) - dots
            around = set(label[rim > 0])
            assert (
                around <= {shapes.GROUND}
                if kind == shapes.PEBBLE
                else around <= {shapes.DISK, shapes.SQUARE, shapes.TRIANGLE}
            )


def test_lines_alone_tell_where_an_outlined_shape_is(outlined):
    colours = []  # Inside and outside of the lines, a pair per scene.
    for image, label in zip(*outlined):
        tone = image.mean(-1)
        dark = tone < np.median(tone) + 25
        # What a fill from the rim does not reach.
        regions = cv2.connectedComponents(
            dark.astype(np.uint8), connectivity=4
        )[1]
        rim = np.r_[regions[0], regions[-1], regions[:, 0], regions[:, -1]]
        inside = ~np.isin(regions, rim)
        shape = np.isin(label, (shapes.DISK, shapes.SQUARE, shapes.TRIANGLE))
        assert (inside == shape)[dark].mean() > 0.99
        # All but the lines of a large shape is dark.
        deep = cv2.erode(
            (shape | (label == shapes.BUTTON)).astype(np.uint8),
            np.ones((9, 9)),
        )
        near = cv2.dilate(
            (label == shapes.BUTTON).astype(np.uint8), np.ones((5, 5))
        )
        assert dark[(deep > 0) & (near == 0)].mean() > 0.9
        outside = dark & (label == shapes.GROUND)
        inside &= dark
        if inside.any():
            colours.append([image[part].mean(0) for part in (inside, outside)])
    # Both are the same ground, so no colour tells.
    one, two = np.moveaxis(colours, 1, 0)
    assert len(colours) > 150 and abs((one - two).mean(0)).max() < 2


@pytest.mark.parametrize(
    'change',
    [
        dict(num_images=3),
        dict(outlined=True),
        dict(size=(64, 72)),
        dict(seed=1),
    ],
)
def test_other_scenes_are_refused_and_left_alone(tmp_path, change):
    kwargs = dict(num_images=2, size=(64, 64), data_root=str(tmp_path))
    ShapesDataset(**kwargs)
    before = contents(tmp_path)
    with pytest.raises(UserError, match='another data_root') as info:
        ShapesDataset(**{**kwargs, **change})
    assert '\n' not in str(info.value)
    assert contents(tmp_path) == before
    assert len(ShapesDataset(**kwargs)) == 2
    assert contents(tmp_path) == before


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'mine.txt').write_text('mine')
    with pytest.raises(UserError, match='not written by ShapesDataset'):
        ShapesDataset(num_images=2, data_root=str(tmp_path))
    assert contents(tmp_path) == {'train/mine.txt': b'mine'}


def test_a_broken_off_generation_leaves_nothing(tmp_path, monkeypatch):
    real = cv2.imencode
    encoded = []

    def interrupt(suffix, array):
        encoded.append(array)
        if len(encoded) == 3:
            # Not even a kill that no handler sees makes the name appear.
            assert [name[:7] for name in os.listdir(tmp_path)] == ['.train-']
            raise KeyboardInterrupt
        return real(suffix, array)

    monkeypatch.setattr(cv2, 'imencode', interrupt)
    with pytest.raises(KeyboardInterrupt):
        ShapesDataset(num_images=4, size=(64, 64), data_root=str(tmp_path))
    assert not os.listdir(tmp_path)
    monkeypatch.undo()
    data = ShapesDataset(num_images=4, size=(64, 64), data_root=str(tmp_path))
    assert len(data) == 4


def test_a_full_disk_is_an_error_that_says_so(tmp_path, monkeypatch):
    def write(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, 'write_bytes', write)
    with pytest.raises(OSError, match='No space left .*00000.png'):
        ShapesDataset(num_images=1, size=(64, 64), data_root=str(tmp_path))
    assert not os.listdir(tmp_path)


def test_racing_writers_agree(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(
                ShapesDataset,
                num_images=8,
                size=(64, 64),
                data_root=str(tmp_path),
            )
            for _ in range(4)
        ]
        assert [len(job.result()) for job in jobs] == [8] * 4
    assert os.listdir(tmp_path) == ['train']
    assert len(os.listdir(tmp_path / 'train' / 'images')) == 8
    manifest = json.loads((tmp_path / 'train' / 'manifest.json').read_text())
    assert manifest['num_images'] == 8


def test_the_later_of_two_writers_keeps_the_first_folder(tmp_path):
    folder = tmp_path / 'train'
    manifest = dict(split='train', num_images=2, size=[64, 64], seed=0)
    shapes.write_scenes(folder, manifest)
    inode = os.stat(folder).st_ino
    shapes.write_scenes(folder, manifest)
    assert os.stat(folder).st_ino == inode
    assert os.listdir(tmp_path) == ['train']


def test_lazy_init_writes_nothing(tmp_path):
    ShapesDataset(data_root=str(tmp_path / 'x'), lazy_init=True)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    'kwargs, word',
    [
        (dict(split='training'), 'split'),
        (dict(num_images=0), 'num_images'),
        (dict(num_images=2.5), 'num_images'),
        (dict(size=(32, 128)), 'size'),
        (dict(size=(96,)), 'size'),
        (dict(size=96), 'size'),
        (dict(seed=-1), 'seed'),
    ],
)
def test_user_mistakes_are_told_in_one_sentence(tmp_path, kwargs, word):
    with pytest.raises(UserError, match=word) as info:
        ShapesDataset(data_root=str(tmp_path / 'x'), **kwargs)
    assert str(info.value).endswith('.') and '\n' not in str(info.value)
    assert not os.listdir(tmp_path)
