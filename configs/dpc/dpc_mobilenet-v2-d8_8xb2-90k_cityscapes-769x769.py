_base_ = './dpc_mobilenet-v2-d16_8xb2-90k_cityscapes-769x769.py'
model = dict(
    backbone=dict(
        strides=(1, 2, 2, 1, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4, 4)
    ),
    # The rates are doubled.
    decode_head=dict(output_stride=8),
)
