_base_ = [
    '../_base_/models/autodeeplab.py',
    '../_base_/datasets/pascal_voc12_aug_513x513.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/retrain_80k.py',
]
model = dict(
    data_preprocessor=dict(size=(513, 513)), decode_head=dict(num_classes=21)
)
