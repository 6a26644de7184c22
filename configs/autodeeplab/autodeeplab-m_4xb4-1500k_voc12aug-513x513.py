_base_ = './autodeeplab-s_4xb4-1500k_voc12aug-513x513.py'
model = dict(
    backbone=dict(filter_multiplier=32),
    decode_head=dict(in_channels=[160, 320]),
)
