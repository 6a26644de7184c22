"""Bad files of a data set, and good ones that must pass unchanged."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.runner import Runner
from mmseg.registry import TRANSFORMS
from small_search import search_config

from mmseg_autodeeplab.cli import user_errors
from mmseg_autodeeplab.datasets import CheckedPipeline, ShapesDataset
from mmseg_autodeeplab.errors import UserError

CROP = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=(64, 64),
        ratio_range=(0.8, 1.5),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=(48, 48)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """The files of eight scenes for training and two for validation."""
    folder = tmp_path_factory.mktemp('scenes')
    for split, count in (('train', 8), ('val', 2)):
        ShapesDataset(split, count, (64, 64), data_root=str(folder))
    return folder


def config(folder, scenes, num_workers=0, guard=True, **kwargs):
    shutil.copytree(scenes, folder / 'shapes', dirs_exist_ok=True)
    cfg = search_config(folder, **kwargs)
    cfg.train_dataloader.dataset.pipeline = CROP
    cfg.train_dataloader.num_workers = num_workers
    cfg.val_dataloader = dict(
        batch_size=1,
        num_workers=num_workers,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            cfg.train_dataloader.dataset,
            split='val',
            num_images=2,
            pipeline=[
                dict(type='LoadImageFromFile'),
                # Before the label, as MMSegmentation has it.
                dict(type='Resize', scale=(96, 96), keep_ratio=True),
                dict(type='LoadAnnotations'),
                dict(type='PackSegInputs'),
            ],
        ),
    )
    cfg.val_cfg = dict(type='ValLoop')
    cfg.val_evaluator = dict(type='IoUMetric')
    cfg.test_dataloader = cfg.val_dataloader
    cfg.test_cfg = dict(type='TestLoop')
    cfg.test_evaluator = cfg.val_evaluator
    if guard:
        cfg.default_hooks.data_guard = dict(type='DataGuardHook')
    return cfg


def stop_workers(runner):
    """End them now: the garbage collector would wait seconds for each."""
    endless = getattr(runner._train_loop, 'dataloader_iterator', None)
    iterators = [getattr(endless, '_iterator', None)]
    iterators += [getattr(hook, '_batches', None) for hook in runner.hooks]
    for iterator in iterators:
        if hasattr(iterator, '_shutdown_workers'):
            iterator._shutdown_workers()


def sentence(cfg, run=Runner.train):
    """What a tool prints of a run that fails."""
    runner = Runner.from_cfg(cfg)
    with pytest.raises(SystemExit) as error, user_errors():
        run(runner)
    stop_workers(runner)
    assert '\n' not in error.value.code and len(error.value.code) < 600
    return error.value.code


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_text(path):
    path.write_text('no image')


def widen(path):
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), np.pad(label, ((0, 0), (0, 3))))


def make_rgb(path):
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), np.stack([label] * 3, -1))


def set_labels(path):
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    label[0, :3] = 6, 255, 254
    cv2.imwrite(str(path), label)


BAD = [
    ('images', truncate, 'the image {} cannot be read (it does not decode)'),
    (
        'images',
        write_text,
        'the image {} cannot be read (it does not decode)',
    ),
    ('images', Path.unlink, 'the image {} does not exist'),
    ('labels', truncate, 'the label {} cannot be read (OSError: image file '),
    ('labels', write_text, 'the label {} cannot be read (Unidentified'),
    ('labels', Path.unlink, 'the label {} does not exist'),
    ('labels', widen, 'the label {} has 64 x 67 pixels, but the image '),
    ('labels', make_rgb, 'the label {} has 64 x 64 x 3 pixels, but the '),
    (
        'labels',
        set_labels,
        'the label {} has the values 6, 254, but allowed are 0 to 5 and 255, '
        'which is ignored',
    ),
]


@pytest.mark.parametrize('kind, spoil, text', BAD)
def test_every_bad_file_is_named(tmp_path, scenes, kind, spoil, text):
    cfg = config(tmp_path, scenes)
    cfg.val_dataloader.dataset.ann_file = 'val.txt'
    (tmp_path / 'shapes' / 'val.txt').write_text('00000\n00001\n')
    path = tmp_path / 'shapes' / 'val' / kind / '00001.png'
    spoil(path)
    error = sentence(cfg, Runner.val)
    assert error.startswith(f'Error: {text.format(path)}')


@pytest.mark.parametrize('num_workers', [0, 2])
def test_training_in_workers_names_it_too(tmp_path, scenes, num_workers):
    cfg = config(tmp_path, scenes, num_workers)
    cfg.custom_hooks = []  # The loader of part B is a later one.
    for path in (tmp_path / 'shapes/train/labels').iterdir():
        set_labels(path)
    error = sentence(cfg)
    assert error.startswith(f'Error: the label {tmp_path}')
    assert 'has the values 6, 254, but allowed' in error
    assert not (tmp_path / 'work' / 'architecture.json').exists()


@pytest.mark.parametrize('num_workers', [0, 2])
def test_part_b_is_guarded(tmp_path, scenes, num_workers):
    cfg = config(tmp_path, scenes, num_workers, begin=1)
    runner = Runner.from_cfg(cfg)
    dataset = runner.build_dataloader(
        cfg.train_dataloader, seed=runner.seed
    ).sampler
    in_a = set(dataset.part_indices)
    labels = tmp_path / 'shapes' / 'train' / 'labels'
    part_b = {labels / f'{i:05d}.png' for i in range(8) if i not in in_a}
    for path in part_b:
        truncate(path)
    error = sentence(cfg)
    named = error.partition('the label ')[2].partition(' cannot be read')[0]
    assert Path(named) in part_b


def test_testing_is_guarded(tmp_path, scenes):
    cfg = config(tmp_path, scenes)
    path = tmp_path / 'shapes' / 'val' / 'labels' / '00000.png'
    set_labels(path)
    assert f'the label {path} has the values' in sentence(cfg, Runner.test)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_good_data_train_to_the_same_bits(tmp_path, scenes, num_workers):
    states = []
    for guard in (False, True):
        cfg = config(
            tmp_path / str(guard), scenes, num_workers, guard, max_iters=3
        )
        cfg.train_cfg.val_interval = 2
        runner = Runner.from_cfg(cfg)
        runner.train()
        stop_workers(runner)
        for dataset in (
            runner.train_dataloader.dataset,
            runner.val_dataloader.dataset,
        ):
            assert isinstance(dataset.pipeline, CheckedPipeline) == guard
        states.append((runner.model.state_dict(), torch.get_rng_state()))
    (plain, plain_rng), (guarded, guarded_rng) = states
    assert torch.equal(plain_rng, guarded_rng)
    assert all(torch.equal(plain[key], guarded[key]) for key in plain)


def test_another_sample_is_drawn_where_a_pipeline_gives_none(tmp_path, scenes):
    @TRANSFORMS.register_module()
    class DropFirst:
        def __call__(self, data):
            return None if '00000' in data['img_path'] else data

    try:
        cfg = config(tmp_path, scenes)
        cfg.train_dataloader.dataset.pipeline = [
            dict(type='DropFirst'),
            *CROP,
        ]
        runner = Runner.from_cfg(cfg)
        runner.call_hook('before_run')  # no loop is built: nothing to do
        loop = runner.train_loop
        runner.call_hook('before_run')
    finally:
        TRANSFORMS.module_dict.pop('DropFirst')
    sample = loop.dataloader.dataset[0]
    assert '00000' not in sample['data_samples'].img_path


def test_wrapped_data_sets_are_guarded(tmp_path, scenes):
    cfg = config(tmp_path, scenes)
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset',
        datasets=[dict(type='RepeatDataset', dataset=dataset, times=2)],
    )
    path = tmp_path / 'shapes' / 'train' / 'images' / '00003.png'
    truncate(path)
    runner = Runner.from_cfg(cfg)
    loop = runner.train_loop
    runner.call_hook('before_run')
    with pytest.raises(UserError, match=f'the image {path} cannot be read'):
        loop.dataloader.dataset[8 + 3]


def test_classes_of_model_and_data_must_agree(tmp_path, scenes):
    cfg = config(tmp_path, scenes)
    cfg.model.decode_head.num_classes = 19
    error = sentence(cfg)
    assert 'num_classes=19, but ShapesDataset has 6 classes: set ' in error
    assert 'model.decode_head.num_classes=6' in error


def check(labels, num_classes, ignore_index=255, **data):
    pipeline = CheckedPipeline([lambda data: data], num_classes, ignore_index)
    labels = np.asarray(labels)
    image = np.zeros((*labels.shape, 3), np.uint8)
    data = dict(dict(img=image, gt_seg_map=labels), **data)
    return pipeline(data) is data


def test_what_labels_may_be():
    assert check(np.uint8([[0, 5, 255]]), 6)
    assert check(np.int64([[0, 5, -1]]), 6, ignore_index=-1)
    assert check(np.uint8([[9]]), None)
    # A label is of the size of the file, whatever the image is now.
    assert check(np.zeros((2, 3), int), 6, ori_shape=(2, 3), img=np.zeros(5))
    with pytest.raises(UserError, match=r'the values -1, but allowed are 0'):
        check(np.int64([[0, 5, -1]]), 6)
    with pytest.raises(UserError, match='the values 255, but allowed are 0'):
        check(np.uint8([[255]]), 6, ignore_index=254)
    with pytest.raises(UserError, match=r'6, 7, 8, 9, 10, 11, 12, 13, \.\.\.'):
        check(np.arange(99).reshape(9, 11), 6)


def test_another_transform_is_named():
    def transform(data):
        raise RuntimeError('first\nsecond')

    pipeline = CheckedPipeline([transform], 6)
    with pytest.raises(UserError) as error:
        pipeline(dict(img_path='a.png', seg_map_path='b.png'))
    assert str(error.value) == (
        'function fails on the image a.png with the label b.png '
        '(RuntimeError: first second)'
    )
    assert isinstance(error.value.__cause__, RuntimeError)
    assert isinstance(pipeline, Compose)
