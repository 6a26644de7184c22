# Decoders on CamVid at half resolution, trained end to end, from scratch:
# there are no weights for the backbone here. A controller draws them.
_base_ = [
    '../_base_/models/template_mobilenet-v2.py',
    '../_base_/datasets/camvid.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/camvid_600i.py',
]
norm_cfg = dict(_delete_=True, type='BN')
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    pretrained=None,
    backbone=dict(norm_cfg=norm_cfg),
    decode_head=dict(
        channels=48, sep_repeats=1, num_classes=11, norm_cfg=norm_cfg
    ),
)
train_pipeline = [
    dict(type='LoadCheckedImage'),
    dict(type='LoadCheckedAnnotations'),
    dict(
        type='RandomResize',
        scale=(240, 180),
        ratio_range=(0.7, 1.4),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=(128, 128), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(240, 180), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=test_pipeline),
)
val_evaluator = dict(type='FrequencyWeightedIoUMetric')
max_iters = 300
param_scheduler = [dict(_base_.param_scheduler[0], end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=100))
# Polyak averages of the weights, which are validated.
custom_hooks = [dict(type='EMAHook', momentum=0.01)]

search = dict(
    space=dict(type='TemplateSpace'),
    # Theirs are for thousands of trials.
    sampler=dict(type='ControllerSampler', lr=1e-3, buffer=10),
    pruner=dict(type='MovingAveragePruner'),
    trials=60,
    reward=['mIoU', 'mAcc', 'fwIoU'],
    limit=dict(parameters=300e3),
)
work_dir = 'work_dirs/templates_search_camvid'

# What tools/decode.py changes in the config that it writes: full resolution,
# and the size and the schedule of the published networks' configs.
retrain_iters = 20000
retrain = dict(
    model=dict(
        data_preprocessor=dict(size=(256, 256)),
        decode_head=dict(channels=64, sep_repeats=2),
    ),
    train_dataloader=dict(
        batch_size=16, dataset=dict(pipeline=_base_.train_pipeline)
    ),
    val_dataloader=dict(dataset=dict(pipeline=_base_.test_pipeline)),
    param_scheduler=[dict(_base_.param_scheduler[0], end=retrain_iters)],
    train_cfg=dict(max_iters=retrain_iters, val_interval=2000),
    default_hooks=dict(checkpoint=dict(interval=2000)),
    custom_hooks=[],
)
