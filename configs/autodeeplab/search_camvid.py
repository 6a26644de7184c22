# A search on CamVid that takes a CPU core a quarter of an hour: a small
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
        num_layers=8, num_blocks=2, filter_multiplier=4, stem_channels=16
    ),
    decode_head=dict(
        # num_blocks * filter_multiplier * (1, 2, 4, 8)
        in_channels=[8, 16, 32, 64],
        num_classes=11,
        # The paper's rate of 96 is for crops of 321 pixels.
        rate=32,
    ),
)
train_dataloader = dict(sampler=dict(type='SplitInfiniteSampler'))

max_iters = 800
lr = 0.005
# For so few steps, the quicker optimizer.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=lr, weight_decay=0.01)
)
param_scheduler = [
    dict(_base_.param_scheduler[0], eta_min=0.04 * lr, end=max_iters)
]
custom_hooks = [
    dict(
        type='ArchSearchHook',
        begin=max_iters // 4,
        interval=50,
        # More than the paper's 0.003, for a search of 600 steps.
        optimizer=dict(type='Adam', lr=0.03, weight_decay=0.001),
        # Against skip connections that win early.
        terms=[dict(type='LogSumExpTerm', weight=1)],
        # Where a path ends, no search can learn: we chose, for thin things.
        score='inflow:4',
    )
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=100),
    search_visualization=dict(interval=50),
)

# What tools/decode.py changes in the config that it writes: a small network
# on a schedule of minutes.
retrain_iters = 1200
retrain = dict(
    model=dict(
        backbone=dict(
            filter_multiplier=8,
            stem_channels=16,
            norm_cfg=dict(_delete_=True, type='BN'),
        ),
        decode_head=dict(
            channels=32,
            low_level_channels=16,
            # Those of the paper reach beyond images of this size.
            dilations=(2, 4, 6),
            norm_cfg=dict(_delete_=True, type='BN'),
        ),
    ),
    train_dataloader=dict(batch_size=8),
    optim_wrapper=dict(
        optimizer=dict(
            _delete_=True, type='AdamW', lr=0.005, weight_decay=0.01
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
    train_cfg=dict(max_iters=retrain_iters, val_interval=600),
    default_hooks=dict(checkpoint=dict(interval=600)),
)
