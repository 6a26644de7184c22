_base_ = [
    '../_base_/models/autodeeplab.py',
    '../_base_/datasets/cityscapes_769x769.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/retrain_160k.py',
]
train_dataloader = dict(batch_size=2, num_workers=4)
