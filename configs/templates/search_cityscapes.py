# The search of the paper on Cityscapes at half resolution: 5 epochs of the
# decoder on cached features of a frozen backbone, then 5 of all, validated
# after each, with Polyak averages; hopeless decoders are stopped early. Theirs
# validated on a tenth of the training images, and drew up to 20 000.
_base_ = [
    '../_base_/models/template_mobilenet-v2.py',
    'mmseg::_base_/datasets/cityscapes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/template_160k.py',
]
backbone = dict(
    type='TruncatedMobileNetV2',
    norm_cfg=dict(type='BN'),
    init_cfg=dict(type='Pretrained', checkpoint='mmcls://mobilenet_v2'),
)
model = dict(
    data_preprocessor=dict(size=(321, 321)),
    pretrained=None,
    backbone=dict(_delete_=True, type='FrozenBackbone', backbone=backbone),
    decode_head=dict(
        channels=48, sep_repeats=1, norm_cfg=dict(_delete_=True, type='BN')
    ),
)
train_pipeline = [
    dict(type='LoadCheckedImage'),
    dict(type='LoadCheckedAnnotations'),
    dict(type='Resize', scale=(1024, 512), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=(321, 321)),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1024, 512), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = dict(type='FrequencyWeightedIoUMetric')
param_scheduler = []  # The rate is constant.

search = dict(
    space=dict(type='TemplateSpace'),
    sampler=dict(type='ControllerSampler'),
    pruner=dict(type='MovingAveragePruner'),
    trials=1000,
    reward=['mIoU', 'mAcc', 'fwIoU'],
    stages=[
        dict(
            cache_features=dict(crops=1),
            train_dataloader=dict(dataset=dict(indices=1000)),
            optim_wrapper=dict(optimizer=dict(lr=0.007)),
            custom_hooks=[dict(type='EMAHook', momentum=0.1)],
            train_cfg=dict(max_iters=156, val_interval=156),
        ),
        dict(
            warm_start=True,
            model=dict(backbone=dict(_delete_=True, **backbone)),
            custom_hooks=[dict(type='EMAHook', momentum=0.01)],
            train_cfg=dict(max_iters=460, val_interval=92),
        ),
    ],
)
work_dir = 'work_dirs/templates_search_cityscapes'

# What tools/decode.py changes in the config that it writes: the configs of the
# published networks beside this one.
retrain = dict(
    model=dict(
        data_preprocessor=dict(size=(512, 1024)),
        backbone=dict(
            _delete_=True,
            **dict(backbone, norm_cfg=dict(type='SyncBN', requires_grad=True)),
        ),
        decode_head=dict(
            channels=64,
            sep_repeats=2,
            norm_cfg=dict(type='SyncBN', requires_grad=True),
        ),
    ),
    train_dataloader=dict(
        batch_size=2, dataset=dict(pipeline=_base_.train_pipeline)
    ),
    val_dataloader=dict(dataset=dict(pipeline=_base_.test_pipeline)),
    param_scheduler=_base_.param_scheduler,
)
