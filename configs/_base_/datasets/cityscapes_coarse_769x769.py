# Fine and coarse annotations together. The paper does not say how it mixes
# them: here the 2975 fine images are repeated until they are one half of what
# is drawn, so that the 19 998 coarse ones do not set the borders of objects.
# Coarse labels are converted by cityscapesscripts like the fine ones.
_base_ = ['./cityscapes_769x769.py']
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                type='RepeatDataset',
                times=7,
                dataset=dict(
                    type='CityscapesDataset',
                    data_root=_base_.data_root,
                    data_prefix=dict(
                        img_path='leftImg8bit/train',
                        seg_map_path='gtFine/train',
                    ),
                    pipeline=_base_.train_pipeline,
                ),
            ),
            dict(
                type='CityscapesDataset',
                data_root=_base_.data_root,
                data_prefix=dict(
                    img_path='leftImg8bit/train_extra',
                    seg_map_path='gtCoarse/train_extra',
                ),
                seg_map_suffix='_gtCoarse_labelTrainIds.png',
                pipeline=_base_.train_pipeline,
            ),
        ],
    )
)
