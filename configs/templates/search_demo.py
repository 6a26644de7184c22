# A search to watch on two CPU cores in minutes: generated scenes, a backbone
# of half the width, and ten decoders, which a controller draws. It learns
# little from ten: search_camvid.py gives it more.
_base_ = [
    '../_base_/models/template_mobilenet-v2.py',
    '../_base_/datasets/shapes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/camvid_600i.py',
]
norm_cfg = dict(_delete_=True, type='BN')
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    pretrained=None,
    backbone=dict(widen_factor=0.5, norm_cfg=norm_cfg),
    decode_head=dict(
        in_channels=(16, 16),
        channels=48,
        sep_repeats=1,
        num_classes=6,
        norm_cfg=norm_cfg,
    ),
)
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = dict(num_workers=0, persistent_workers=False)
val_evaluator = dict(type='FrequencyWeightedIoUMetric')
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=0.005))
max_iters = 150
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=75))

search = dict(
    space=dict(type='TemplateSpace'),
    sampler=dict(type='ControllerSampler', lr=1e-3, buffer=10),
    trials=10,
    reward=['mIoU', 'mAcc', 'fwIoU'],
    limit=dict(parameters=150e3),
)
work_dir = 'work_dirs/templates_search_demo'

# What tools/decode.py changes in the config that it writes: a longer schedule,
# and the size of the published networks.
retrain = dict(
    model=dict(decode_head=dict(channels=64, sep_repeats=2)),
    train_cfg=dict(max_iters=1000, val_interval=500),
    default_hooks=dict(checkpoint=dict(interval=500)),
)
