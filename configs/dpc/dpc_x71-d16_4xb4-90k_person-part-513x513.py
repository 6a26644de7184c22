_base_ = [
    '../_base_/models/dpc_x71.py',
    '../_base_/datasets/pascal_person_part_513x513.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/dpc_90k.py',
]
model = dict(
    data_preprocessor=dict(size=(513, 513)),
    decode_head=dict(num_classes=7),
)
train_dataloader = dict(batch_size=4)
