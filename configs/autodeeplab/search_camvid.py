# A search on CamVid that takes a CPU core a quarter of an hour: a small
# supernet on images of half the size. It is here to show the whole way on
# real images; it is no recipe for a GPU, where search_cityscapes.py is the
# one to start from.
_base_ = [
    '../_base_/models/autodeeplab_supernet.py',
    '../_base_/datasets/camvid_half.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/search_short.py',
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
param_scheduler = [dict(_base_.param_scheduler[0], end=max_iters)]
custom_hooks = [
    dict(
        _base_.custom_hooks[0],
        begin=max_iters // 4,
        # Where a path ends, no search can learn: we chose, for thin things.
        score='inflow:4',
    ),
    _base_.custom_hooks[1],
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=100),
    search_visualization=dict(interval=50),
)

retrain_iters = 1200
retrain = dict(
    param_scheduler=[
        dict(_base_.retrain.param_scheduler[0], end=retrain_iters)
    ],
    train_cfg=dict(max_iters=retrain_iters, val_interval=600),
    default_hooks=dict(checkpoint=dict(interval=600)),
)
