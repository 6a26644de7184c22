# Auto-DeepLab-S on Cityscapes from scratch, the paper's schedule and crop.
# The batch of 16 is DeepLabv3's; the paper does not state its own.
_base_ = [
    '../_base_/models/autodeeplab.py',
    'mmseg::_base_/datasets/cityscapes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/retrain.py',
]
crop_size = (769, 769)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=(2048, 1024),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2, num_workers=4, dataset=dict(pipeline=train_pipeline)
)

# The paper trains with scheduled drop path but does not give its
# probability; 0.7 is what the authors' code uses for NASNet-A large.
custom_hooks = [dict(type='ScheduledDropPathHook', keep_prob=0.7)]
