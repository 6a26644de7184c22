"""Training on cached features against training with the frozen backbone."""

import json
import multiprocessing
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import DATASETS, MODELS
from torch import nn

from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search.blackbox import cached_features
from mmseg_autodeeplab.search.blackbox.cached_features import cached_config

POOLING = dict(input=-1, op='pyramid_pooling', grid_size=[2, 1])
CELL = [
    dict(input=-1, op='conv', kernel=3, rate=[1, 3]),
    POOLING,
    dict(input=0, op='conv', kernel=1),
]
BACKBONE = dict(
    type='ResNet',
    depth=18,
    stem_channels=4,
    base_channels=4,
    num_stages=2,
    strides=(1, 2),
    dilations=(1, 1),
    out_indices=(0, 1),
    frozen_stages=2,
    norm_eval=True,
)
NUM_IMAGES = 5


@pytest.fixture
def cfg(tmp_path):
    """Images of two sizes; five of each part."""
    rng = np.random.RandomState(0)
    for part in ('train', 'val'):
        for kind, channels in (('images', 3), ('labels', 1)):
            folder = tmp_path / 'data' / part / kind
            folder.mkdir(parents=True)
            for i in range(NUM_IMAGES):
                shape = (48, 52 + 8 * (i % 2), channels)
                values = rng.randint(0, 256 if channels == 3 else 3, shape)
                file = folder / f'{i}.png'
                cv2.imwrite(str(file), values.astype(np.uint8))

    def loader(part, pipeline, **kwargs):
        return dict(
            num_workers=0,
            dataset=dict(
                type='BaseSegDataset',
                data_root=str(tmp_path / 'data'),
                data_prefix=dict(
                    img_path=f'{part}/images', seg_map_path=f'{part}/labels'
                ),
                img_suffix='.png',
                metainfo=dict(classes=list('abc'), palette=[[0, 0, 0]] * 3),
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='LoadAnnotations'),
                    *pipeline,
                    dict(type='PackSegInputs'),
                ],
            ),
            **kwargs,
        )

    crops = [
        dict(type='RandomResize', scale=(48, 60), ratio_range=(0.6, 1.5)),
        dict(type='RandomCrop', crop_size=(40, 40)),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'),
    ]
    return Config(
        dict(
            default_scope='mmseg',
            randomness=dict(seed=3),
            work_dir=str(tmp_path / 'work'),
            model=dict(
                type='EncoderDecoder',
                data_preprocessor=dict(
                    type='SegDataPreProcessor',
                    mean=[100.0] * 3,
                    std=[60.0] * 3,
                    size=(40, 40),
                    pad_val=0,
                    seg_pad_val=255,
                    test_cfg=dict(size_divisor=32),
                ),
                backbone=BACKBONE,
                decode_head=dict(
                    type='DPCHead',
                    arch=dict(branches=CELL),
                    in_channels=8,
                    channels=6,
                    num_classes=3,
                    dropout_ratio=0.1,
                    norm_cfg=dict(type='BN'),
                ),
                train_cfg=dict(),
                test_cfg=dict(mode='whole'),
            ),
            train_dataloader=loader(
                'train',
                crops,
                batch_size=2,
                sampler=dict(type='InfiniteSampler', shuffle=True),
            ),
            val_dataloader=loader(
                'val',
                [],
                batch_size=1,
                sampler=dict(type='DefaultSampler', shuffle=False),
            ),
            val_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
            val_cfg=dict(type='ValLoop'),
            train_cfg=dict(
                type='SeededIterBasedTrainLoop', max_iters=7, val_interval=7
            ),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
            default_hooks=dict(
                checkpoint=None,
                logger=dict(type='LoggerHook', log_metric_by_epoch=False),
            ),
        )
    )


def train(cfg, tmp_path, name):
    """The losses of a training, and the scores of its validation."""
    cfg = cfg.copy()
    cfg.update(work_dir=str(tmp_path / name), experiment_name=f'cache-{name}')
    runner = Runner.from_cfg(cfg)
    runner.train()
    losses = runner.message_hub.log_scalars['train/loss'].data[0]
    file = next(Path(runner.work_dir).glob('*/vis_data/scalars.json'))
    scores = json.loads(file.read_text().splitlines()[-1])
    return losses, scores['mIoU'], runner


@pytest.mark.run
@pytest.mark.parametrize('decoder', [False, True])
def test_losses_are_those_of_the_uncached_training(cfg, tmp_path, decoder):
    """And so is the score; weights are the same from the beginning."""
    if decoder:
        cfg.model.decode_head.update(in_channels=[4, 8], low_level_channels=3)
        cfg.model.backbone = dict(
            type='FrozenBackbone',
            backbone=dict(BACKBONE, frozen_stages=-1, norm_eval=False),
        )
    init_default_scope('mmseg')
    torch.manual_seed(1)
    model = MODELS.build(cfg.model)
    model.init_weights()
    for name, buffer in model.backbone.named_buffers():
        if name.endswith('running_mean'):
            buffer.normal_()
    cfg.load_from = str(tmp_path / 'weights.pth')
    torch.save(dict(state_dict=model.state_dict()), cfg.load_from)
    losses, score, _ = train(cfg, tmp_path, 'plain')

    cached = cached_config(cfg, tmp_path / 'cache', crops=3)
    found, found_score, runner = train(cached, tmp_path, 'cached')
    assert len(found) == 7 and len(set(found)) == 7
    np.testing.assert_allclose(found, losses, rtol=0, atol=1e-6)
    assert found_score == score
    assert not list(runner.model.backbone.parameters())
    assert runner.train_dataloader.dataset.metainfo['classes'] == list('abc')


@pytest.mark.run
def test_a_trial_is_trained_and_resumed_by_the_tool(cfg, tmp_path, run_tool):
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=False, interval=7
    )
    cached = cached_config(cfg, tmp_path / 'cache')
    cached.dump(tmp_path / 'trial.py')
    options = ('--work-dir', tmp_path / 'trial', '--resume')
    run_tool('train', tmp_path / 'trial.py', *options)
    assert (tmp_path / 'trial' / 'iter_7.pth').is_file()
    run_tool('train', tmp_path / 'trial.py', *options)


def test_a_sample_is_a_crop_of_its_own(cfg, tmp_path):
    cfg = cached_config(cfg, tmp_path / 'cache', crops=2)
    init_default_scope('mmseg')
    train, val = (
        DATASETS.build(cfg[f'{part}_dataloader'].dataset)
        for part in ('train', 'val')
    )
    assert (len(train), len(val)) == (2 * NUM_IMAGES, NUM_IMAGES)
    samples = [train[i] for i in range(len(train))]
    for turn in (samples[:NUM_IMAGES], samples[NUM_IMAGES:]):
        paths = {sample['data_samples'].img_path for sample in turn}
        assert len(paths) == NUM_IMAGES
    # Padded as a training pads them; the first feature is read by no head.
    assert {s['inputs'][1].shape for s in samples} == {(8, 5, 5)}
    assert all(sample['inputs'][0] is None for sample in samples)
    sums = {sample['inputs'][1].sum().item() for sample in samples}
    assert len(sums) == len(samples)
    label = samples[0]['data_samples'].gt_sem_seg.data
    assert label.shape == (1, 40, 40) and label.dtype == torch.int64
    # Whole images, padded, and labels as they are.
    sizes = {tuple(s['data_samples'].gt_sem_seg.data.shape[1:]) for s in val}
    assert sizes == {(48, 52), (48, 60)}
    assert {sample['inputs'][1].shape for sample in val} == {(8, 8, 8)}


def caches(folder):
    return sorted(path for path in Path(folder).glob('*') if path.is_dir())


def other_head(cfg):
    cfg.model.decode_head.arch = dict(branches=[POOLING])
    cfg.optim_wrapper.optimizer.lr = 1


def later_data(cfg):
    folder = Path(cfg.train_dataloader.dataset.data_root)
    os.utime(folder / 'train/images/0.png', (1, 1))


def more_data(cfg):
    folder = Path(cfg.val_dataloader.dataset.data_root, 'val')
    for kind in ('images', 'labels'):
        content = (folder / kind / '0.png').read_bytes()
        (folder / kind / '9.png').write_bytes(content)


def other_weights(cfg):
    file = Path(cfg.work_dir).with_suffix('.pth')
    init_default_scope('mmseg')
    state = MODELS.build(cfg.model).state_dict()
    torch.save({key: value + 1 for key, value in state.items()}, file)
    cfg.load_from = str(file)


def other_place(cfg):
    root = Path(cfg.train_dataloader.dataset.data_root)
    root.rename(root.with_name('moved'))
    for part in ('train', 'val'):
        cfg[f'{part}_dataloader'].dataset.data_root = str(
            root.with_name('moved')
        )


SAME = [other_head, other_place]
OTHER = [
    later_data,
    more_data,
    other_weights,
    lambda cfg: cfg.randomness.update(seed=4),
    lambda cfg: cfg.model.data_preprocessor.update(std=[50.0] * 3),
    lambda cfg: cfg.train_dataloader.dataset.pipeline.pop(2),
    lambda cfg: cfg.val_dataloader.dataset.pipeline.insert(
        1, dict(type='Resize', scale=(40, 40))
    ),
    lambda cfg: cfg.model.decode_head.update(in_index=0),
]


@pytest.mark.parametrize('change', SAME + OTHER)
def test_what_a_cache_is_shared_by(cfg, tmp_path, monkeypatch, change):
    cached_config(cfg, tmp_path / 'cache')
    change(cfg)
    if change in SAME:
        monkeypatch.setattr(cached_features, '_write', None)
    cached_config(cfg, tmp_path / 'cache')
    count = 1 if change in SAME else 2
    assert len(caches(tmp_path / 'cache')) == count


def test_half_a_cache_is_never_used(cfg, tmp_path, monkeypatch):
    """Neither one that failed, nor one whose writer was killed."""

    def fail(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cached_features, 'save_index', fail)
        with pytest.raises(KeyboardInterrupt):
            cached_config(cfg, tmp_path / 'cache')
        assert not caches(tmp_path / 'cache')
        patch.setattr(cached_features.shutil, 'rmtree', lambda *a, **k: None)
        with pytest.raises(KeyboardInterrupt):
            cached_config(cfg, tmp_path / 'cache')
    (left,) = caches(tmp_path / 'cache')
    folder = Path(
        cached_config(cfg, tmp_path / 'cache').val_dataloader.dataset.folder
    )
    assert caches(tmp_path / 'cache') == [folder.parent] != [left]


def write_counted(cfg, folder, counter, start):
    def count_writers(*args):
        with counter.get_lock():
            counter.value += 1
        write(*args)

    write, cached_features._write = cached_features._write, count_writers
    start.wait()
    cached_config(cfg, folder)


def test_data_sets_are_not_copied(cfg, tmp_path, monkeypatch):
    """They may hold what has no copy, such as an open database."""

    def refuse(self, memo):
        raise TypeError('a data set was copied')

    name = 'mmseg.datasets.BaseSegDataset.__deepcopy__'
    monkeypatch.setattr(name, refuse, raising=False)
    cached_config(cfg, str(tmp_path / 'cache'), crops=2)


@pytest.mark.run
def test_one_of_several_workers_writes(cfg, tmp_path):
    context = multiprocessing.get_context('spawn')
    counter, start = context.Value('i', 0), context.Barrier(2)
    args = (cfg, tmp_path / 'cache', counter, start)
    workers = [
        context.Process(target=write_counted, args=args) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert counter.value == 1
    assert len(caches(tmp_path / 'cache')) == 1


@pytest.mark.parametrize(
    'change, sentence',
    [
        (
            lambda cfg: cfg.model.backbone.update(frozen_stages=1),
            'parameters of ResNet are trained, layer2.0.conv1.weight among',
        ),
        (
            lambda cfg: cfg.model.backbone.update(
                norm_cfg=dict(type='BN', requires_grad=False),
                norm_eval=False,
                frozen_stages=-1,
            ),
            'parameters of ResNet are trained, conv1.weight among them: set',
        ),
        (
            lambda cfg: cfg.model.__setitem__('backbone', frozen_by_hand()),
            'are in training mode, layer.1 among them: set norm_eval=True',
        ),
        (
            lambda cfg: cfg.randomness.update(seed=None),
            'randomness.seed is not set: set randomness=dict(seed=0)',
        ),
        (
            lambda cfg: cfg.model.update(
                test_cfg=dict(mode='slide', crop_size=(9, 9), stride=(5, 5))
            ),
            "test_cfg.mode='slide': set model.test_cfg=dict(mode='whole')",
        ),
        (
            lambda cfg: cfg.model.__setitem__('backbone', single_feature()),
            'gives one: add another one to its out_indices',
        ),
    ],
)
def test_refusals(cfg, tmp_path, change, sentence):
    change(cfg)
    with pytest.raises(UserError) as error:
        cached_config(cfg, tmp_path / 'cache')
    assert sentence in str(error.value) and '\n' not in str(error.value)
    assert not caches(tmp_path / 'cache')


class FrozenByHand(nn.Module):
    """Without its batch norm."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
        self.requires_grad_(False)

    def init_weights(self):
        pass


def frozen_by_hand():
    return dict(type=FrozenByHand)


def single_feature():
    backbone = dict(type='MobileNetV2', widen_factor=0.25, out_indices=(1,))
    return dict(type='FrozenBackbone', backbone=backbone)


@pytest.mark.parametrize('option', [dict(crops=0), dict(dtype='int8')])
def test_options_are_checked(cfg, tmp_path, option):
    with pytest.raises(UserError, match='cache_features takes crops of 1'):
        cached_config(cfg, tmp_path / 'cache', **option)


def test_weights_of_another_backbone_are_refused(cfg, tmp_path):
    other_weights(cfg)
    state = torch.load(cfg.load_from)
    del state['backbone.conv1.weight']
    torch.save(state, cfg.load_from)
    with pytest.raises(UserError, match='lacks 1 weights of the backbone'):
        cached_config(cfg, tmp_path / 'cache')
    state['backbone.conv1.weight'] = torch.zeros(1)
    torch.save(state, cfg.load_from)
    with pytest.raises(UserError, match='is another one .*size mismatch'):
        cached_config(cfg, tmp_path / 'cache')


def test_the_disk_is_looked_at_first(cfg, tmp_path, monkeypatch):
    usage = cached_features.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        cached_features.shutil,
        'disk_usage',
        lambda _: usage._replace(free=1000),
    )
    with pytest.raises(UserError, match='need about .* GiB in .* are free'):
        cached_config(cfg, tmp_path / 'cache')
    assert not caches(tmp_path / 'cache')


def test_a_folder_without_features_is_refused(tmp_path):
    with pytest.raises(UserError, match='holds no cached features'):
        DATASETS.build(dict(type='CachedFeaturesDataset', folder=tmp_path))
