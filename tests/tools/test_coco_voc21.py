"""COCO with the classes of PASCAL VOC, from a miniature COCO."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/_base_/datasets/coco_voc21_513x513.py'
TOOL = 'dataset_converters/coco_voc21'
# COCO's id, its name, PASCAL VOC's name: the public lists, by hand.
CATEGORIES = [
    (1, 'person', 'person'),
    (2, 'bicycle', 'bicycle'),
    (3, 'car', 'car'),
    (4, 'motorcycle', 'motorbike'),
    (5, 'airplane', 'aeroplane'),
    (6, 'bus', 'bus'),
    (7, 'train', 'train'),
    (9, 'boat', 'boat'),
    (16, 'bird', 'bird'),
    (17, 'cat', 'cat'),
    (18, 'dog', 'dog'),
    (19, 'horse', 'horse'),
    (20, 'sheep', 'sheep'),
    (21, 'cow', 'cow'),
    (44, 'bottle', 'bottle'),
    (62, 'chair', 'chair'),
    (63, 'couch', 'sofa'),
    (64, 'potted plant', 'pottedplant'),
    (67, 'dining table', 'diningtable'),
    (72, 'tv', 'tvmonitor'),
]
# truck, traffic light, elephant, toothbrush, banner, wood: id less one; and
# what nobody labelled.
OTHERS = [7, 9, 21, 89, 91, 181, 255]
PERSON = 0


def stripes():
    """Every category and every other value in two columns of its own."""
    values = [number - 1 for number, _, _ in CATEGORIES] + OTHERS
    return np.tile(np.repeat(np.uint8(values), 2), (40, 1))


def persons(count):
    """So many pixels of a person among unlabelled ones."""
    pixels = np.full(1500, 255, np.uint8)
    pixels[:count] = PERSON
    return pixels.reshape(30, 50)


@pytest.fixture
def coco(tmp_path):
    """Three images to train on and two to validate on."""
    root = tmp_path / 'coco'
    for split, maps in {
        'train2017': {
            '000000000030': persons(1001),
            '000000000009': stripes(),
            '000000000025': persons(1000),
        },
        'val2017': {'000000000139': stripes(), '000000000285': persons(1)},
    }.items():
        (root / split).mkdir(parents=True)
        (root / 'stuffthingmaps' / split).mkdir(parents=True)
        for name, pixels in maps.items():
            image = np.zeros((*pixels.shape, 3), np.uint8)
            Image.fromarray(image).save(root / split / f'{name}.jpg')
            write_map(root, f'{split}/{name}', pixels)
    return root


def write_map(root, name, pixels):
    Image.fromarray(pixels).save(root / 'stuffthingmaps' / f'{name}.png')


@pytest.fixture
def convert(run_tool, coco, tmp_path):
    def run(*options):
        run_tool(TOOL, coco, tmp_path / 'out', '--workers', 1, *options)
        return tmp_path / 'out'

    return run


@pytest.fixture
def refusal(failure, coco, tmp_path):
    def run(*options):
        return failure(TOOL, coco, tmp_path / 'out', '--workers', 1, *options)

    return run


def dataset(part, root):
    cfg = Config.fromfile(CONFIG)
    loader = cfg[f'{part}_dataloader']
    loader.dataset.update(data_root=str(root), pipeline=cfg.test_pipeline)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.build(loader.dataset)


def test_the_config_loads_every_class(convert):
    out = convert()
    for part in ('train', 'val'):
        data = dataset(part, out)
        assert len(data.metainfo['classes']) == 21
        label = data[0]['data_samples'].gt_sem_seg.data[0].numpy()
        assert label.shape == stripes().shape
        names = [data.metainfo['classes'][i] for i in label[0, ::2]]
        assert names == [voc for _, _, voc in CATEGORIES] + (
            ['background'] * len(OTHERS)
        )
        assert (label == label[0]).all()
        assert (label[:, 1::2] == label[:, ::2]).all()


def test_lists_name_what_has_more_than_1000_pixels(convert):
    out = convert()
    lists = (out / 'train2017.txt', out / 'val2017.txt')
    assert lists[0].read_text() == '000000000009\n000000000030\n'
    assert lists[1].read_text() == '000000000139\n'
    assert len(dataset('train', out)) == 2
    # Labels exist for all, so that another limit costs no conversion.
    assert len(list((out / 'labels/train2017').iterdir())) == 3
    convert('--min-pixels', '999')
    assert len(lists[0].read_text().split()) == 3


def test_the_pixels_of_a_palette_image_are_its_indices(convert, coco):
    image = Image.fromarray(stripes()).convert('P')
    image.putpalette([(7 * i) % 256 for i in range(768)])
    image.save(coco / 'stuffthingmaps/train2017/000000000009.png')
    out = convert()
    a, b = (
        np.array(Image.open(out / 'labels' / name))
        for name in ('train2017/000000000009.png', 'val2017/000000000139.png')
    )
    assert (a == b).all()


@pytest.mark.run
def test_several_processes_write_the_same(convert, coco, tmp_path):
    subprocess.run(
        [
            sys.executable,
            ROOT / 'tools' / f'{TOOL}.py',
            coco,
            tmp_path / 'parallel',
            '--workers',
            '2',
        ],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        check=True,
    )
    out = convert()
    files = sorted(
        path.relative_to(out) for path in out.rglob('*.*') if path.is_file()
    )
    assert len(files) == 5 + 2
    for path in files:
        parallel = tmp_path / 'parallel' / path
        assert parallel.read_bytes() == (out / path).read_bytes()


def test_it_goes_on_where_it_was(convert, refusal, coco, tmp_path):
    """Stopped at a broken map, then with a label cut off and one lost."""
    broken = 'train2017/000000000030'
    whole = coco / 'stuffthingmaps' / f'{broken}.png'
    content = whole.read_bytes()
    whole.write_bytes(content[:60])
    assert f'{whole} cannot be read' in refusal()
    out = tmp_path / 'out'
    labels = out / 'labels' / 'train2017'
    assert sorted(path.name for path in labels.iterdir()) == [
        '000000000009.png',
        '000000000025.png',
    ]
    assert not (out / 'train2017.txt').exists()

    whole.write_bytes(content)
    kept, cut = sorted(labels.iterdir())
    complete = cut.read_bytes()
    cut.write_bytes(complete[:-30])
    before = kept.stat()
    convert()
    assert cut.read_bytes() == complete
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )
    assert not list(out.rglob('*.tmp'))
    assert (out / 'train2017.txt').read_text().split() == [
        '000000000009',
        '000000000030',
    ]


@pytest.mark.parametrize('value', [11, 182, 254])
def test_values_that_the_maps_do_not_have(refusal, coco, value):
    """11 is no category of COCO, but a class of mmseg's COCO-Stuff."""
    pixels = stripes()
    pixels[5, 6] = value
    write_map(coco, 'train2017/000000000025', pixels)
    assert f'000000000025.png has a pixel of {value}, which' in refusal()


def test_colours_are_no_map(refusal, coco):
    write_map(coco, 'val2017/000000000285', np.zeros((4, 4, 3), np.uint8))
    assert '000000000285.png is an image of mode RGB' in refusal()


def test_what_is_missing_is_said_before_anything_is_written(
    refusal, coco, tmp_path
):
    (coco / 'stuffthingmaps/val2017/000000000285.png').unlink()
    assert 'lacks the maps of 1 of 2 images, 000000000285.png' in refusal()
    for image in (coco / 'val2017').iterdir():
        image.unlink()
    assert f'{coco}/val2017 has no file that ends in .jpg' in refusal()
    shutil.rmtree(coco / 'stuffthingmaps')
    assert (
        f'{coco}/stuffthingmaps/train2017 does not exist: COCO_ROOT needs'
    ) in refusal()
    assert not (tmp_path / 'out').exists()


def test_limits(refusal):
    assert 'no image of train2017 has more than 1600 pixels' in refusal(
        '--min-pixels', 1600
    )
    assert '--workers must be 1 or more' in refusal('--workers', 0)


def test_images_that_cannot_be_linked_may_be_copied(
    convert, refusal, coco, tmp_path, monkeypatch
):
    def refuse(*args, **kwargs):
        raise OSError(1, 'Operation not permitted')

    monkeypatch.setattr(os, 'symlink', refuse)
    error = refusal()
    assert '(Operation not permitted): copy that folder there' in error
    for split in ('train2017', 'val2017'):
        shutil.copytree(coco / split, tmp_path / 'out' / 'images' / split)
    assert len(dataset('train', convert())) == 2


def test_a_link_elsewhere_stays(refusal, tmp_path):
    link = tmp_path / 'out/images/train2017'
    link.parent.mkdir(parents=True)
    link.symlink_to('elsewhere')
    assert f'{link} is a link to elsewhere, not to' in refusal()
    assert os.readlink(link) == 'elsewhere'
