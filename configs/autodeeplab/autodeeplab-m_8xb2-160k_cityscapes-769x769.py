_base_ = './autodeeplab-s_8xb2-160k_cityscapes-769x769.py'
model = dict(
    backbone=dict(filter_multiplier=32),
    decode_head=dict(in_channels=[160, 320]),
)
