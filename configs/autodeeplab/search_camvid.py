# A search on CamVid that two CPU cores finish in well under an hour: a small
# supernet on images of half the size. It is here to show the whole way on
# real images; it is no recipe for a GPU, where search_cityscapes.py is the
# one to start from.
_base_ = [
    '../_base_/models/autodeeplab_supernet.py',
    '../_base_/datasets/camvid_half.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/search.py',
]
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        num_layers=8, num_blocks=2, filter_multiplier=4, stem_channels=32
    ),
    decode_head=dict(
        # num_blocks * filter_multiplier * (1, 2, 4, 8)
        in_channels=[8, 16, 32, 64],
        num_classes=11,
    ),
)
train_dataloader = dict(sampler=dict(type='SplitInfiniteSampler'))

max_iters = 700
param_scheduler = [dict(_base_.param_scheduler[0], end=max_iters)]
custom_hooks = [
    dict(
        type='ArchSearchHook',
        begin=300,
        interval=50,
        # More than the paper's 0.003, for a search of 400 steps.
        optimizer=dict(type='Adam', lr=0.01, weight_decay=0.001),
    )
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=100),
    search_visualization=dict(interval=50),
)

# What tools/decode.py changes in the config that it writes: full resolution,
# and a small network on a schedule of minutes.
retrain_iters = 1500
retrain_crop_size = (192, 192)
retrain_test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(480, 360), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
retrain = dict(
    model=dict(
        data_preprocessor=dict(size=retrain_crop_size),
        backbone=dict(
            filter_multiplier=16,
            stem_channels=32,
            norm_cfg=dict(_delete_=True, type='BN'),
        ),
        decode_head=dict(
            channels=64,
            low_level_channels=16,
            norm_cfg=dict(_delete_=True, type='BN'),
        ),
    ),
    train_dataloader=dict(
        batch_size=8,
        dataset=dict(
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations'),
                dict(
                    type='RandomResize',
                    scale=(480, 360),
                    ratio_range=(0.5, 2.0),
                    keep_ratio=True,
                ),
                dict(
                    type='RandomCrop',
                    crop_size=retrain_crop_size,
                    cat_max_ratio=0.75,
                ),
                dict(type='RandomFlip', prob=0.5),
                dict(type='PackSegInputs'),
            ]
        ),
    ),
    val_dataloader=dict(dataset=dict(pipeline=retrain_test_pipeline)),
    test_dataloader=dict(dataset=dict(pipeline=retrain_test_pipeline)),
    optim_wrapper=dict(
        optimizer=dict(
            _delete_=True, type='AdamW', lr=0.001, weight_decay=0.01
        )
    ),
    param_scheduler=[
        dict(
            type='PolyLR',
            power=0.9,
            eta_min=0,
            begin=0,
            end=retrain_iters,
            by_epoch=False,
        )
    ],
    train_cfg=dict(max_iters=retrain_iters, val_interval=500),
    default_hooks=dict(checkpoint=dict(interval=500)),
)
