"""Data that are not there, found before a run begins."""

import pytest
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from tiny_config import write_config

from mmseg_autodeeplab.cli import check_data, read_config
from mmseg_autodeeplab.errors import UserError


@pytest.fixture
def cfg(tmp_path):
    """Of four images in two folders, and their labels."""
    init_default_scope('mmseg')
    cfg = read_config(str(write_config(tmp_path)))
    for kind in ('images', 'labels'):
        (tmp_path / 'data' / kind / 'more').mkdir()
        for i in '01':
            file = tmp_path / 'data' / kind / f'{i}.png'
            (file.parent / 'more' / file.name).write_bytes(file.read_bytes())
    return cfg


def check(cfg):
    check_data(cfg, 'train', 'val', 'test')


def refusal(cfg, *parts):
    with pytest.raises(UserError) as error:
        check_data(cfg, *(parts or ('train', 'val', 'test')))
    assert '\n' not in str(error.value)
    return str(error.value)


def leave_dangling(path):
    path.rename(path.with_name('away'))
    path.symlink_to('nowhere.png')


def make_folder(path):
    path.unlink()
    path.mkdir()


def make_circle(path):
    path.unlink()
    path.symlink_to(path)


def list_files(cfg, content, part='val'):
    """Let a data set list its images in a file."""
    file = f'{cfg[f"{part}_dataloader"].dataset.data_root}/list.txt'
    with open(file, 'wb') as stream:
        stream.write(content)
    cfg[f'{part}_dataloader'].dataset.ann_file = 'list.txt'
    return file


@pytest.mark.parametrize('part', ['train', 'val'])
@pytest.mark.parametrize('name', ['0', 'more/1'])
def test_a_missing_label_is_named(cfg, tmp_path, part, name):
    check(cfg)
    label = tmp_path / f'data/labels/{name}.png'
    label.unlink()
    key = f'{part}_dataloader.dataset' + '.dataset' * (part == 'train')
    assert refusal(cfg, part) == (
        f'{label}, of the 8 files that {key} lists, cannot be found: add '
        'them, or check data_prefix, img_suffix, seg_map_suffix and ann_file'
    )


@pytest.mark.parametrize('kind', ['images', 'labels'])
@pytest.mark.parametrize('lose', [leave_dangling, make_folder, make_circle])
def test_what_is_no_file_is_missing(cfg, tmp_path, kind, lose):
    list_files(cfg, b'1\nmore/0\n')
    check_data(cfg, 'val')
    path = tmp_path / f'data/{kind}/more/0.png'
    lose(path)
    assert refusal(cfg, 'val').startswith(f'{path}, of the 4 files')


def test_links_to_files_and_folders_are_files(cfg, tmp_path):
    for kind in ('images', 'labels'):
        folder = tmp_path / 'data' / kind
        (folder / 'more').rename(tmp_path / kind)
        (folder / '0.png').rename(tmp_path / f'{kind}.png')
        (folder / '0.png').symlink_to(tmp_path / f'{kind}.png')
    list_files(cfg, b'0\n1')
    check_data(cfg, 'val')
    for kind in ('images', 'labels'):
        (tmp_path / 'data' / kind / 'more').symlink_to(tmp_path / kind)
    list_files(cfg, b'0\n1\nmore/0\nmore/1\n')
    check_data(cfg, 'val')


def test_a_missing_image_of_a_list_and_how_many(cfg, tmp_path):
    list_files(cfg, b'0\nno/a\n1\nno/b.png\n')
    images = tmp_path / 'data/images'
    labels = tmp_path / 'data/labels'
    assert refusal(cfg, 'val').startswith(
        f'{labels}/no/a.png and 3 more, of the 8 files that '
        'val_dataloader.dataset lists, cannot be found'
    )
    cfg.val_dataloader.dataset.data_prefix.pop('seg_map_path')
    assert refusal(cfg, 'val').startswith(
        f'{images}/no/a.png and 1 more, of the 4 files that '
    )


def test_only_what_is_used_has_to_be_there(cfg, tmp_path):
    (tmp_path / 'data/labels/more/1.png').unlink()
    cfg.val_dataloader.dataset.indices = 3
    check_data(cfg, 'val')
    cfg.val_dataloader.dataset.indices = 4
    assert 'of the 8 files' in refusal(cfg, 'val')


@pytest.mark.parametrize('kind', ['ConcatDataset', 'RepeatDataset'])
def test_wrapped_data_sets(cfg, tmp_path, kind):
    label = tmp_path / 'data/labels/more/1.png'
    label.unlink()
    dataset = dict(cfg.val_dataloader.dataset)
    if kind == 'ConcatDataset':
        whole = dict(dataset, indices=3)
        cfg.val_dataloader.dataset = dict(type=kind, datasets=[whole, dataset])
        key = 'val_dataloader.dataset.datasets.1'
    else:
        cfg.val_dataloader.dataset = dict(type=kind, times=2, dataset=dataset)
        key = 'val_dataloader.dataset.dataset'
    assert refusal(cfg, 'val').startswith(
        f'{label}, of the 8 files that {key} lists'
    )


def test_suffixes_are_those_of_the_class(cfg, tmp_path):
    for kind, suffix in (
        ('images', 'leftImg8bit'),
        ('labels', 'gtFine_labelTrainIds'),
    ):
        folder = tmp_path / 'city' / kind
        folder.mkdir(parents=True)
        (folder / f'a_{suffix}.png').touch()
    dataset = cfg.val_dataloader.dataset
    dataset.update(type='CityscapesDataset', data_root=f'{tmp_path}/city')
    dataset.pop('img_suffix')
    dataset.pop('metainfo')
    check_data(cfg, 'val')
    label = tmp_path / 'city/labels/a_gtFine_labelTrainIds.png'
    label.unlink()
    assert refusal(cfg, 'val').startswith(f'{label}, of the 2 files')


def test_tests_need_labels_if_they_load_them(cfg, tmp_path):
    label = tmp_path / 'data/labels/0.png'
    label.unlink()
    assert refusal(cfg, 'test').startswith(f'{label}, of the 8 files')
    pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset.pipeline = [
        transform for transform in pipeline if 'Anno' not in transform.type
    ]
    check_data(cfg, 'test')
    (tmp_path / 'data/images/0.png').unlink()
    list_files(cfg, b'0\n1\n', 'test')
    assert 'images/0.png, of the 2 files' in refusal(cfg, 'test')


def test_images_that_may_be_missing(cfg, tmp_path):
    list_files(cfg, b'0\n1\n')
    (tmp_path / 'data/images/0.png').unlink()
    assert 'images/0.png, of the 4 files' in refusal(cfg, 'val')
    cfg.val_dataloader.dataset.pipeline[0].ignore_empty = True
    check_data(cfg, 'val')


@pytest.mark.parametrize('given', ['generated', 'remote', 'prefix', 'own'])
def test_data_that_cannot_be_looked_for(cfg, given):
    @DATASETS.register_module(name='Generated', force=True)
    class Generated(BaseSegDataset):
        generates_data = True

    @DATASETS.register_module(name='Own', force=True)
    class Own:
        def __init__(self, **kwargs):
            raise AssertionError

    dataset = cfg.val_dataloader.dataset
    dataset.ann_file = list_files(cfg, b'none')
    dataset.update(
        dict(
            generated=dict(type='Generated'),
            remote=dict(backend_args=dict(backend='petrel')),
            prefix=dict(
                data_root=None,
                data_prefix=dict(img_path='s3://x', seg_map_path='s3://y'),
            ),
            own=dict(type='Own'),
        )[given]
    )
    try:
        check_data(cfg, 'val')
    finally:
        DATASETS.module_dict.pop('Generated')
        DATASETS.module_dict.pop('Own')


@pytest.mark.parametrize(
    'content', [b'0\n1', b'0\r\n1\r\n', b'0  \n\t1\n', b'0\n1\n']
)
def test_lists_that_are_read(cfg, content):
    list_files(cfg, content)
    check_data(cfg, 'val')


@pytest.mark.parametrize(
    'content, sentence',
    [
        (b'0\n1\n\n', 'line 3 of {} is blank, which would be an image'),
        (b'0\r\n1\r\n\r\n', 'line 3 of {} is blank'),
        (b'\n0\n1\n', 'line 1 of {} is blank'),
        (b'0\n \t\n1\n', 'line 2 of {} is blank'),
        (b'\xef\xbb\xbf0\n1\n', '{} begins with a byte order mark'),
        (b'\xff\xfe0\0\n\0', '{} is not in UTF-8 ('),
        (b'0\nM\xfcller\n', '{} is not in UTF-8 ('),
        (b'', '{} lists no image: check ann_file of val_dataloader.dataset'),
        (b' \n\n', '{} lists no image'),
        (b'0.png\n1\n', 'labels/0.png.png and 1 more, of the 4 files'),
    ],
)
def test_lists_that_are_not(cfg, content, sentence):
    file = list_files(cfg, content)
    assert sentence.format(file) in refusal(cfg, 'val')


def test_lists_of_another_form_are_their_readers(cfg):
    @DATASETS.register_module(name='Reader', force=True)
    class Reader(BaseSegDataset):
        def load_data_list(self):
            root = self.data_prefix['img_path']
            return [dict(img_path=f'{root}/0.png')]

    cfg.val_dataloader.dataset.type = 'Reader'
    list_files(cfg, b'a\n\n\xff')
    try:
        check_data(cfg, 'val')
    finally:
        DATASETS.module_dict.pop('Reader')


@pytest.mark.parametrize('part', ['train', 'val', 'test'])
@pytest.mark.parametrize('workers', [{}, dict(num_workers=0)])
@pytest.mark.parametrize(
    'name, value', [('persistent_workers', True), ('prefetch_factor', 4)]
)
def test_what_needs_workers(cfg, part, workers, name, value):
    loader = cfg[f'{part}_dataloader']
    loader.pop('num_workers')
    loader.update(workers, **{name: value})
    assert refusal(cfg, part) == (
        f'{part}_dataloader has {name}={value}, but no worker '
        f'(num_workers=0): pass --cfg-options {part}_dataloader.{name}=None, '
        'or have num_workers=1'
    )
    loader[name] = None
    check_data(cfg, part)
    loader.update({name: value, 'num_workers': 1})
    check_data(cfg, part)
