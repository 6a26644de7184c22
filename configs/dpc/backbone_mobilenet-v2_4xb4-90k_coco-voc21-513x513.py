# DeepLabv3 on COCO with the classes of VOC, for the weights of the backbone
# that search_cityscapes.py and search_voc12aug.py freeze.
_base_ = [
    '../_base_/models/dpc_mobilenet-v2.py',
    '../_base_/datasets/coco_voc21_513x513.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/dpc_90k.py',
]
model = dict(
    data_preprocessor=dict(size=(513, 513)),
    decode_head=dict(
        _delete_=True,
        type='ASPPHead',
        in_channels=320,
        channels=256,
        dilations=(1, 6, 12, 18),
        num_classes=21,
        dropout_ratio=0.1,
        norm_cfg=dict(type='SyncBN', momentum=3e-4, eps=1e-5),
        align_corners=True,
        loss_decode=dict(
            type='CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=1.0,
            avg_non_ignore=True,
        ),
    ),
)
train_dataloader = dict(batch_size=4)
