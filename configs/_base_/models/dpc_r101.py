# The published cell on ResNet-101 at output stride 16, with the decoder of
# DeepLabv3+, as the released networks have it.
_base_ = './dpc_mobilenet-v2.py'
model = dict(
    pretrained='open-mmlab://resnet101_v1c',
    backbone=dict(
        _delete_=True,
        type='ResNetV1c',
        depth=101,
        num_stages=4,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        out_indices=(0, 3),
        contract_dilation=True,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    # Of the low-level and of the final feature.
    decode_head=dict(in_channels=(256, 2048), low_level_channels=48),
)
