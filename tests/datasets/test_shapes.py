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


def draw(hard):
    """200 scenes: images (200, 96, 128, 3) and labels (200, 96, 128)."""
    images, labels = zip(
        *(shapes.draw_scene((96, 128), [0, 0, i], hard) for i in range(200))
    )
    return np.stack(images), np.stack(labels)


@pytest.fixture(scope='module')
def easy():
    return draw(False)


@pytest.fixture(scope='module')
def hard():
    return draw(True)


@pytest.fixture(params=['easy', 'hard'])
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
    'hard, expected',
    [(False, 'eda48dd2c73ae3dd'), (True, '7a89b2fe752f749e')],
)
def test_pixels_are_pinned(hard, expected):
    digest = hashlib.sha256()
    for size, entropy in (((96, 128), [0, 0, 0]), ((97, 131), [1, 2, 3])):
        for array in shapes.draw_scene(size, entropy, hard):
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


def test_a_dot_is_known_by_what_it_lies_on_alone(easy):
    (pebbles, small), (buttons, large) = (
        dot_patches(*easy, kind) for kind in (shapes.PEBBLE, shapes.BUTTON)
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


def test_what_lies_around_a_dot_tells_its_class(scenes):
    for label in scenes[1]:
        for kind in (shapes.PEBBLE, shapes.BUTTON):
            dots = (label == kind).astype(np.uint8)
            num, parts = cv2.connectedComponents(dots)
            for part in range(1, num):
                dot = (parts == part).astype(np.uint8)
                rim = cv2.dilate(dot, np.ones((5, 5), np.uint8)) - dot
                # A corner of a small triangle may leave a bit of ground.
                is_ground = (label[rim > 0] == shapes.GROUND).mean()
                assert is_ground == (kind == shapes.PEBBLE) or (
                    kind == shapes.BUTTON and is_ground < 0.8
                )


def test_brightness_and_outlines_tell_the_classes_of_hard_scenes(hard):
    found, agreement = {kind: [] for kind in shapes.SLIMNESS}, []
    for image, label in zip(*hard):
        bright = image.mean(-1) > 90
        agreement.append((bright == (label != shapes.GROUND)).mean())
        num, parts = cv2.connectedComponents(bright.astype(np.uint8))
        for part in range(1, num):
            inner = label[parts == part]
            kinds = np.isin(inner, list(found))
            if len(inner) < 100 or not kinds.any():
                continue
            # Area over that of the smallest circle around: of a disk 1, of
            # a square 0.64, of a triangle 0.41.
            points = cv2.findNonZero((parts == part).astype(np.uint8))
            radius = cv2.minEnclosingCircle(points)[1] + 0.5
            fill = len(inner) / (np.pi * radius**2)
            guess = 1 + int(fill < 0.82) + int(fill < 0.53)
            found[np.bincount(inner[kinds]).argmax()].append(guess)
    assert np.mean(agreement) > 0.98
    for kind, guesses in found.items():
        assert len(guesses) > 100
        assert np.mean(np.array(guesses) == kind) > 0.8
    # The kinds have the same colours.
    images, labels = hard
    tones = [images[labels == kind].mean(0) for kind in found]
    assert np.ptp(tones, 0).max() < 4


def test_hard_scenes_have_small_shapes_and_a_button_on_each(hard):
    sizes = []
    for label in hard[1]:
        shape = (label != shapes.GROUND) & (label != shapes.PEBBLE)
        num, parts = cv2.connectedComponents(shape.astype(np.uint8))
        for part in range(1, num):
            inner = label[parts == part]
            sizes.append(len(inner))
            assert (inner == shapes.BUTTON).any()
    sizes = np.sort(sizes)
    tenth = len(sizes) // 10
    assert sizes[tenth] < 250 and sizes[-tenth] > 1500


@pytest.mark.parametrize(
    'change',
    [
        dict(num_images=3),
        dict(hard=True),
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
