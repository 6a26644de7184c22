# A search to watch on two CPU cores in minutes: generated scenes, a backbone
# of a few channels, and twelve cells. It is trained with each cell, as there
# are no weights to freeze; search_camvid.py has cached features.
_base_ = [
    '../_base_/models/dpc_mobilenet-v2.py',
    '../_base_/datasets/shapes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/camvid_600i.py',
]
norm_cfg = dict(_delete_=True, type='BN')
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        stem_channels=16,
        base_channels=16,
        num_stages=3,
        strides=(1, 2, 1),
        dilations=(1, 1, 2),
        out_indices=(0, 2),
        norm_cfg=dict(type='BN'),
    ),
    decode_head=dict(
        in_channels=64,
        channels=32,
        # It is 8, but doubled rates reach beyond images of this size.
        output_stride=16,
        num_classes=6,
        norm_cfg=norm_cfg,
    ),
)
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = dict(num_workers=0, persistent_workers=False)
# With a tenth of it, 150 iterations learn the ground alone.
optim_wrapper = dict(optimizer=dict(lr=0.01))
max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=100))

search = dict(
    space=dict(type='DPCSpace', num_branches=5),
    sampler=dict(type='NearBestSampler'),
    trials=12,
    reward='mIoU',
)
work_dir = 'work_dirs/dpc_search_demo'

# What tools/decode.py changes in the config that it writes: a longer schedule.
retrain = dict(
    train_cfg=dict(max_iters=1500, val_interval=500),
    default_hooks=dict(checkpoint=dict(interval=500)),
)
