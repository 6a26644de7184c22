_base_ = './dpc_x71-d16_4xb4-90k_voc12aug-513x513.py'
model = dict(backbone=dict(model_name='xception65'))
