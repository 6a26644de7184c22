_base_ = './dpc_x65-d16_8xb2-90k_cityscapes-769x769.py'
model = dict(
    backbone=dict(output_stride=8),
    # The rates are doubled.
    decode_head=dict(output_stride=8),
)
