# PASCAL-Person-Part, 1716 images to train on and 1817 to validate on, as
# written by tools/dataset_converters/person_part.py.
_base_ = ['./pascal_voc12_aug_513x513.py']
data_root = 'data/pascal_person_part'
dataset = dict(
    _delete_=True,
    type='PascalPersonPartDataset',
    data_root=data_root,
    data_prefix=dict(img_path='images', seg_map_path='labels'),
    ann_file='train.txt',
    pipeline=_base_.train_pipeline,
)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(
    dataset=dict(dataset, ann_file='val.txt', pipeline=_base_.test_pipeline)
)
test_dataloader = val_dataloader
