_base_ = [
    '../_base_/models/dpc_r101.py',
    '../_base_/datasets/cityscapes_769x769.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/dpc_90k.py',
]
train_dataloader = dict(batch_size=2)
