# Auto-DeepLab-S on Cityscapes: the paper's schedule and crop.
# The batch of 16 is DeepLabv3's; the paper does not state its own.
_base_ = [
    '../_base_/models/autodeeplab.py',
    '../_base_/datasets/cityscapes_769x769.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/retrain.py',
]
train_dataloader = dict(batch_size=2, num_workers=4)

# The paper trains with scheduled drop path but does not give its
# probability; 0.7 is what the authors' code uses for NASNet-A large.
custom_hooks = [dict(type='ScheduledDropPathHook', keep_prob=0.7)]
