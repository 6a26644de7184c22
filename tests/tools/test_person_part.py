"""PASCAL-Person-Part from a miniature of the public layout."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/_base_/datasets/pascal_person_part_513x513.py'
TOOL = 'dataset_converters/person_part'
NAMES = dict(train=['2008_000003', '2008_000008'], val=['2010_006082'])
LABEL = np.tile(np.uint8([*range(7), 255]), (6, 1))


@pytest.fixture
def public(tmp_path):
    """What is unzipped; of VOC 2010, one more image than is listed."""
    root = tmp_path / 'pascal_person_part'
    labels = root / 'pascal_person_part_gt'
    lists = root / 'pascal_person_part_trainval_list'
    images = tmp_path / 'VOC2010' / 'JPEGImages'
    for folder in (labels, lists, images):
        folder.mkdir(parents=True)
    for split, names in NAMES.items():
        lines = [
            f'/JPEGImages/{name}.jpg /pascal_person_part_gt/{name}.png\n'
            for name in names
        ]
        (lists / f'{split}.txt').write_text(''.join(lines))
        (lists / f'{split}_id.txt').write_text('\n'.join(names))
        for name in names:
            image = np.zeros((*LABEL.shape, 3), np.uint8)
            Image.fromarray(image).save(images / f'{name}.jpg')
            Image.fromarray(LABEL).save(labels / f'{name}.png')
    (images / '2007_000001.jpg').write_bytes(b'')
    return root


@pytest.fixture
def arguments(public, tmp_path):
    return public, tmp_path / 'VOC2010', tmp_path / 'out'


def dataset(part, root):
    cfg = Config.fromfile(CONFIG)[f'{part}_dataloader'].dataset
    cfg.data_root = str(root)
    cfg.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ]
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.build(cfg)


@pytest.mark.parametrize('options', [(), ('--copy',)])
def test_the_config_reads_what_is_written(
    run_tool, arguments, tmp_path, options
):
    run_tool(TOOL, *arguments, *options)
    out = tmp_path / 'out'
    assert (out / 'images').is_symlink() == (not options)
    run_tool(TOOL, *arguments, *options)  # Again.
    for part, names in NAMES.items():
        found = dataset(part, out)
        assert len(found.metainfo['classes']) == 7
        assert [
            Path(found[i]['data_samples'].img_path).stem
            for i in range(len(found))
        ] == names
        label = found[0]['data_samples'].gt_sem_seg.data
        assert label[0].tolist() == LABEL.tolist()
    assert len(list((out / 'images').iterdir())) == (3 if options else 4)


def test_lists_of_names_are_read_too(run_tool, arguments, public, tmp_path):
    for split in NAMES:
        folder = public / 'pascal_person_part_trainval_list'
        (folder / f'{split}_id.txt').replace(folder / f'{split}.txt')
    run_tool(TOOL, *arguments)
    assert (tmp_path / 'out/train.txt').read_text().split() == NAMES['train']


def no_list(public):
    (public / 'pascal_person_part_trainval_list/val.txt').unlink()


def empty_list(public):
    (public / 'pascal_person_part_trainval_list/val.txt').write_text('\n')


def no_image(public):
    (public.parent / 'VOC2010/JPEGImages/2010_006082.jpg').unlink()


def broken_image(public):
    (public.parent / 'VOC2010/JPEGImages/2010_006082.jpg').write_bytes(b'x')


def change_label(pixels):
    def change(public):
        file = public / 'pascal_person_part_gt/2010_006082.png'
        Image.fromarray(pixels).save(file)

    return change


@pytest.mark.parametrize(
    'change, sentence',
    [
        (no_list, 'val.txt does not exist: PERSON_PART needs'),
        (empty_list, 'val.txt lists no image'),
        (no_image, 'lacks 1 of the 3 files that are listed, 2010_006082.jpg'),
        (broken_image, '2010_006082.jpg or its label'),
        (change_label(LABEL + 1), 'has a pixel of 7, but labels are 0 to 6'),
        (change_label(LABEL[:2]), 'size (8, 2), but a label has one channel'),
        (change_label(np.zeros((6, 8, 3), np.uint8)), 'image of mode RGB'),
    ],
    ids=lambda value: getattr(value, '__name__', None),
)
def test_refusals(failure, arguments, public, tmp_path, change, sentence):
    change(public)
    assert sentence in failure(TOOL, *arguments)
    assert not (tmp_path / 'out').exists()
