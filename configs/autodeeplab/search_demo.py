# A search to watch on two CPU cores in minutes: generated scenes, on which
# networks of one space are a dozen points of mIoU apart after a minute of
# training, and a small supernet.
_base_ = [
    '../_base_/models/autodeeplab_supernet.py',
    '../_base_/datasets/shapes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/search_short.py',
]
scenes = dict(hard=True, data_root='data/shapes_hard')
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    backbone=dict(
        num_layers=4, num_blocks=2, filter_multiplier=4, stem_channels=16
    ),
    decode_head=dict(
        # num_blocks * filter_multiplier * (1, 2, 4, 8)
        in_channels=[8, 16, 32, 64],
        num_classes=6,
        # The paper's rate of 96 is for crops of 321 pixels.
        rate=32,
    ),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    sampler=dict(type='SplitInfiniteSampler'),
    dataset=scenes,
)
val_dataloader = dict(num_workers=1, dataset=scenes)
test_dataloader = dict(num_workers=1, dataset=scenes)

max_iters = 450
custom_hooks = [
    dict(_base_.custom_hooks[0], begin=max_iters // 4),
    _base_.custom_hooks[1],
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    checkpoint=dict(interval=150),
    search_visualization=dict(interval=25),
)

retrain = dict(
    train_cfg=dict(max_iters=600, val_interval=300),
    default_hooks=dict(checkpoint=dict(interval=300)),
)
