# MMSegmentation's DeepLabV3+ on ResNet-18-D8, from scratch.
_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    '../_base_/datasets/camvid_half.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/camvid_600i.py',
]
norm_cfg = dict(type='BN')
# Averaged over labelled pixels, as that of Auto-DeepLab beside it.
loss_decode = dict(avg_non_ignore=True)
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    pretrained=None,
    backbone=dict(depth=18, norm_cfg=norm_cfg),
    # As the zoo's own configs of ResNet-18 have it.
    decode_head=dict(
        in_channels=512,
        channels=128,
        c1_in_channels=64,
        c1_channels=12,
        num_classes=11,
        norm_cfg=norm_cfg,
        loss_decode=loss_decode,
    ),
    auxiliary_head=dict(
        in_channels=256,
        channels=64,
        num_classes=11,
        norm_cfg=norm_cfg,
        loss_decode=loss_decode,
    ),
)
