# COCO 2017 with the 21 classes of PASCAL VOC, as written by
# tools/dataset_converters/coco_voc21.py; its lists name the images that have
# more than 1000 pixels of a VOC class.
_base_ = ['./pascal_voc12_aug_513x513.py']
data_root = 'data/coco_voc21'
dataset = dict(
    _delete_=True,
    type='PascalVOCDataset',
    data_root=data_root,
    data_prefix=dict(
        img_path='images/train2017', seg_map_path='labels/train2017'
    ),
    ann_file='train2017.txt',
    pipeline=_base_.train_pipeline,
)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        data_prefix=dict(
            img_path='images/val2017', seg_map_path='labels/val2017'
        ),
        ann_file='val2017.txt',
    )
)
test_dataloader = val_dataloader
