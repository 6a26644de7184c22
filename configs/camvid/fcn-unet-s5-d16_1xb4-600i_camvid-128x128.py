# MMSegmentation's FCN on U-Net, from scratch.
_base_ = [
    'mmseg::_base_/models/fcn_unet_s5-d16.py',
    '../_base_/datasets/camvid_half.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/camvid_600i.py',
]
norm_cfg = dict(type='BN')
# Averaged over labelled pixels, as that of Auto-DeepLab beside it.
loss_decode = dict(avg_non_ignore=True)
model = dict(
    # It needs inputs that 16 divides.
    data_preprocessor=dict(size=(128, 128), test_cfg=dict(size_divisor=16)),
    backbone=dict(norm_cfg=norm_cfg),
    decode_head=dict(
        num_classes=11, norm_cfg=norm_cfg, loss_decode=loss_decode
    ),
    auxiliary_head=dict(
        num_classes=11, norm_cfg=norm_cfg, loss_decode=loss_decode
    ),
    test_cfg=dict(_delete_=True, mode='whole'),
)
