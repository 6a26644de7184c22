# A search to watch on two CPU cores in minutes: generated scenes and a small
# supernet. The optimiser of the weights is the paper's; all else is small.
_base_ = [
    '../_base_/models/autodeeplab_supernet.py',
    '../_base_/datasets/shapes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/search.py',
]
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    backbone=dict(
        num_layers=4, num_blocks=2, filter_multiplier=4, stem_channels=16
    ),
    decode_head=dict(
        # num_blocks * filter_multiplier * (1, 2, 4, 8)
        in_channels=[8, 16, 32, 64],
        num_classes=6,
    ),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type='SplitInfiniteSampler'),
)
val_dataloader = dict(num_workers=1)
test_dataloader = dict(num_workers=1)

max_iters = 300
param_scheduler = [dict(_base_.param_scheduler[0], end=max_iters)]
custom_hooks = [
    dict(
        type='ArchSearchHook',
        begin=max_iters // 3,
        interval=50,
        # More than the paper's 0.003, for a search of 200 steps.
        optimizer=dict(type='Adam', lr=0.01, weight_decay=0.001),
    )
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=100),
    search_visualization=dict(interval=25),
)

# What tools/decode.py changes in the config that it writes: a small network
# and a schedule of minutes, for which Adam is the quicker optimiser.
retrain_iters = 2000
retrain = dict(
    model=dict(
        backbone=dict(
            filter_multiplier=16,
            stem_channels=16,
            norm_cfg=dict(_delete_=True, type='BN'),
        ),
        decode_head=dict(
            channels=48,
            low_level_channels=16,
            # Those of the paper reach beyond images of this size.
            dilations=(2, 4, 6),
            norm_cfg=dict(_delete_=True, type='BN'),
        ),
    ),
    train_dataloader=dict(batch_size=8),
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
