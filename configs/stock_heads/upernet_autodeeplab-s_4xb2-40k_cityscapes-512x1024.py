# The stock UPerNet with another backbone. The path is 4-4-4-8-16-8-16-16-32-
# 32-16-8, its stages are at strides 4, 8, 16, 8, 16, 32, 16 and 8: these are
# the last ones on the way down to 32. Cells behind them are not built.
_base_ = ['mmseg::upernet/upernet_r50_4xb2-40k_cityscapes-512x1024.py']
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
        out_indices=(0, 3, 4, 5),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    # 5 * F * stride / 4
    decode_head=dict(
        in_channels=[100, 200, 400, 800], loss_decode=loss_decode
    ),
    auxiliary_head=dict(in_channels=400, loss_decode=loss_decode),
)
