"""A search that takes a fraction of a second, and what it is made of."""

import itertools

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import MODELS
from torch import nn

from mmseg_autodeeplab.cli.benchmark import random_batch
from mmseg_autodeeplab.engine import bare_model
from mmseg_autodeeplab.search.gradient import ArchSearchHook

names = itertools.count()


def model_config():
    """A supernet of three layers, whose cells have one block."""
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor',
            mean=[127.5] * 3,
            std=[127.5] * 3,
            size=(64, 64),
        ),
        backbone=dict(
            type='AutoDeepLabSupernet',
            num_layers=3,
            num_blocks=1,
            filter_multiplier=2,
            stem_channels=4,
        ),
        decode_head=dict(
            type='AutoDeepLabSearchHead',
            in_channels=[2, 4, 8, 16],
            num_classes=6,
            dropout_ratio=0,
            norm_cfg=dict(type='BN', affine=False),
            align_corners=True,
        ),
        test_cfg=dict(mode='whole'),
    )


def segmentor(**head):
    """The model alone; always the same."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    cfg = model_config()
    cfg['decode_head'].update(head)
    return MODELS.build(cfg)


def batch():
    """Two images; always the same."""
    torch.manual_seed(0)
    return random_batch(2, 64, 6)


def search_config(work_dir, max_iters=4, **hook):
    """A search through the runner, on generated scenes."""
    return Config(
        dict(
            default_scope='mmseg',
            custom_imports=dict(imports=['mmseg_autodeeplab']),
            # Runners of the same second would share their log otherwise.
            experiment_name=f'search_{next(names)}',
            work_dir=str(work_dir / 'work'),
            randomness=dict(seed=0),
            model=model_config(),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='SplitInfiniteSampler'),
                dataset=dict(
                    type='ShapesDataset',
                    data_root=str(work_dir / 'shapes'),
                    num_images=8,
                    size=(64, 64),
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='LoadAnnotations'),
                        dict(type='PackSegInputs'),
                    ],
                ),
            ),
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(
                    type='SGD', lr=0.025, momentum=0.9, weight_decay=3e-4
                ),
            ),
            train_cfg=dict(
                type='SeededIterBasedTrainLoop', max_iters=max_iters
            ),
            custom_hooks=[dict(type='ArchSearchHook', **hook)],
            default_hooks=dict(
                logger=dict(
                    type='LoggerHook', interval=1, log_metric_by_epoch=False
                ),
                checkpoint=dict(
                    type='CheckpointHook', by_epoch=False, interval=2
                ),
            ),
            log_processor=dict(by_epoch=False),
            log_level='INFO',
        )
    )


class FixedNorms(Hook):
    """Let batch norm, which sees a rank's own batch, be what it is at first.

    After one pass, since statistics of 0 and 1 would leave no gradients.
    """

    def before_train(self, runner):
        model = bare_model(runner)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            model(torch.randn(4, 3, 64, 64, generator=generator))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.model.eval()


def paths(batch):
    return [sample.img_path for sample in batch['data_samples']]


def build(cfg):
    return Runner.from_cfg(cfg)


def search_hook(runner):
    return next(h for h in runner.hooks if isinstance(h, ArchSearchHook))


def split_state(runner):
    """Weights and architecture of the model, as copies."""
    state = {
        name: p.detach().clone() for name, p in runner.model.named_parameters()
    }
    arch = {
        name: state.pop(f'backbone.{name}') for name in ('alphas', 'betas')
    }
    return state, arch


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)
