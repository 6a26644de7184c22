_base_ = './autodeeplab-s_4xb4-160k_ade20k-513x513.py'
model = dict(
    backbone=dict(filter_multiplier=48),
    decode_head=dict(in_channels=[240, 480]),
)
