# The stock PSPNet with another backbone: stages at strides 4, 16, 8 and 8.
# The decode head reads the last, the auxiliary head the one at cell 5.
_base_ = ['mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py']
custom_imports = dict(
    imports=['mmseg_autodeeplab'], allow_failed_imports=False
)
# Averaged over labelled pixels, as everywhere here.
loss_decode = dict(avg_non_ignore=True)
model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='AutoDeepLab',
        arch='autodeeplab',
        filter_multiplier=20,
        out_indices=(0, 2, 3, -1),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    # 5 * F * stride / 4
    decode_head=dict(in_channels=200, loss_decode=loss_decode),
    auxiliary_head=dict(in_channels=200, loss_decode=loss_decode),
)
