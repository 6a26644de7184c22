_base_ = './dpc_x65-d16_4xb4-90k_voc12aug-513x513.py'
model = dict(
    backbone=dict(output_stride=8),
    # The rates are doubled.
    decode_head=dict(output_stride=8),
)
