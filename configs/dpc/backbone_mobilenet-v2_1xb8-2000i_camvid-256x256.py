# DeepLabv3 on a MobileNetV2 of half the width, from scratch, in half an hour
# on two CPU cores: for the weights that search_camvid.py freezes.
_base_ = [
    '../_base_/models/dpc_mobilenet-v2.py',
    '../_base_/datasets/camvid.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/camvid_600i.py',
]
model = dict(
    data_preprocessor=dict(size=(256, 256)),
    pretrained=None,
    backbone=dict(widen_factor=0.5, norm_cfg=dict(_delete_=True, type='BN')),
    decode_head=dict(
        _delete_=True,
        type='ASPPHead',
        in_channels=160,
        channels=64,
        dilations=(1, 6, 12, 18),
        num_classes=11,
        dropout_ratio=0.1,
        norm_cfg=dict(type='BN'),
        align_corners=True,
        loss_decode=dict(
            type='CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=1.0,
            avg_non_ignore=True,
        ),
    ),
)
max_iters = 2000
train_cfg = dict(max_iters=max_iters, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=500))
