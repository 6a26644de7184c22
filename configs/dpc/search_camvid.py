# Forty random cells on CamVid, on cached features of a frozen backbone that
# backbone_mobilenet-v2_1xb8-2000i_camvid-256x256.py has trained: the paper's
# proxy in less than an hour on two CPU cores.
_base_ = [
    '../_base_/models/dpc_proxy.py',
    '../_base_/datasets/camvid.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/camvid_600i.py',
]
norm_cfg = dict(_delete_=True, type='BN')
checkpoint = (
    'work_dirs/backbone_mobilenet-v2_1xb8-2000i_camvid-256x256/iter_2000.pth'  # noqa: E501
)
backbone = dict(
    _base_.model.backbone.backbone,
    widen_factor=0.5,
    init_cfg=dict(
        type='Pretrained', checkpoint=checkpoint, prefix='backbone.'
    ),
)
model = dict(
    data_preprocessor=dict(size=(256, 256)),
    backbone=dict(backbone=backbone),
    decode_head=dict(
        in_channels=160, channels=64, num_classes=11, norm_cfg=norm_cfg
    ),
)
# Features are read in no time.
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=100))

search = dict(
    space=dict(type='DPCSpace', num_branches=5),
    sampler=dict(type='UniformSampler'),
    trials=40,
    reward='mIoU',
    # As many crops as a trial sees: 300 iterations of batch 8.
    stages=[dict(cache_features=dict(crops=6))],
)
work_dir = 'work_dirs/dpc_search_camvid'

# What tools/decode.py changes in the config that it writes: the whole network
# is trained, from the weights of the backbone.
retrain = dict(
    model=dict(
        backbone=dict(_delete_=True, **backbone),
    ),
    train_dataloader=dict(num_workers=2, persistent_workers=True),
    train_cfg=dict(max_iters=1000, val_interval=1000),
    default_hooks=dict(checkpoint=dict(interval=500)),
)
