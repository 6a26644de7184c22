# Sixty decoders on CamVid at half resolution, drawn by a controller and
# trained on cached features of a frozen backbone. Since no weights of ImageNet
# are at hand everywhere, its weights are those that
# ../camvid/template-arch0_1xb8-1200i_camvid-160x160.py trains from scratch.
_base_ = [
    '../_base_/models/template_mobilenet-v2.py',
    '../_base_/datasets/camvid.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/camvid_600i.py',
]
norm_cfg = dict(_delete_=True, type='BN')
checkpoint = 'work_dirs/template-arch0_1xb8-1200i_camvid-160x160/iter_1200.pth'  # noqa: E501
backbone = dict(type='TruncatedMobileNetV2', norm_cfg=dict(type='BN'))
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='FrozenBackbone',
        backbone=dict(
            init_cfg=dict(
                type='Pretrained', checkpoint=checkpoint, prefix='backbone.'
            ),
            **backbone,
        ),
    ),
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
    dict(type='RandomCrop', crop_size=(96, 96), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(240, 180), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
# Features are read in no time.
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
# The first stage of the paper: a constant rate and Polyak averages of the
# weights, which are validated.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='Adam', lr=0.007, weight_decay=1e-5)
)
param_scheduler = []
max_iters = 150
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 2)
default_hooks = dict(checkpoint=dict(interval=max_iters // 2))
custom_hooks = [dict(type='EMAHook', momentum=0.1)]

search = dict(
    space=dict(type='TemplateSpace'),
    # Theirs, 1e-4 and 100, are for thousands of trials.
    sampler=dict(type='ControllerSampler', lr=1e-3, buffer=10),
    pruner=dict(type='MovingAveragePruner'),
    trials=60,
    reward=['mIoU', 'mAcc', 'fwIoU'],
    limit=dict(parameters=300e3),
    # As many crops as a trial sees: 150 iterations of batch 8.
    stages=[dict(cache_features=dict(crops=4))],
)
work_dir = 'work_dirs/templates_search_camvid'

# What tools/decode.py changes in the config that it writes: full resolution,
# and the size and the recipe of the networks that it is compared with,
# ../camvid/template-arch*_1xb8-1200i_camvid-160x160.py.
crop_size = (160, 160)
retrain_pipeline = _base_.train_pipeline
retrain_pipeline[3].crop_size = crop_size
retrain = dict(
    model=dict(
        data_preprocessor=dict(size=crop_size),
        backbone=dict(_delete_=True, **backbone),
        decode_head=dict(channels=64, sep_repeats=2),
    ),
    train_dataloader=dict(dataset=dict(pipeline=retrain_pipeline)),
    val_dataloader=dict(dataset=dict(pipeline=_base_.test_pipeline)),
    optim_wrapper=dict(
        optimizer=dict(
            _delete_=True, type='AdamW', lr=0.003, weight_decay=0.01
        )
    ),
    param_scheduler=_base_.param_scheduler,
    train_cfg=dict(max_iters=1200, val_interval=600),
    default_hooks=dict(checkpoint=dict(interval=600)),
    custom_hooks=[],
)
