_base_ = './autodeeplab-s_8xb2-80k_cityscapes-769x769.py'
model = dict(
    backbone=dict(filter_multiplier=48),
    decode_head=dict(in_channels=[240, 480]),
)
