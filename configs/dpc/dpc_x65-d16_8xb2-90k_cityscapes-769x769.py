_base_ = './dpc_x71-d16_8xb2-90k_cityscapes-769x769.py'
model = dict(backbone=dict(model_name='xception65'))
