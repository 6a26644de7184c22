# Auto-DeepLab-S on PASCAL VOC 2012: the paper's schedule and crop.
# The batch of 16 is DeepLabv3's; the paper does not state its own.
_base_ = [
    '../_base_/models/autodeeplab.py',
    '../_base_/datasets/pascal_voc12_aug_513x513.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/retrain.py',
]
model = dict(
    data_preprocessor=dict(size=(513, 513)), decode_head=dict(num_classes=21)
)

# The paper trains with scheduled drop path but does not give its
# probability; 0.7 is what the authors' code uses for NASNet-A large.
custom_hooks = [dict(type='ScheduledDropPathHook', keep_prob=0.7)]
