_base_ = './dpc_r101-d16_4xb4-90k_voc12aug-513x513.py'
model = dict(
    backbone=dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    # The rates are doubled.
    decode_head=dict(output_stride=8),
)
