# A search on CamVid that takes a CPU core a quarter of an hour: a small
# supernet on images of half the size. It is here to show the whole way on
# real images; it is no recipe for a GPU, where search_cityscapes.py is the
# one to start from.
_base_ = [
    '../_base_/models/autodeeplab_supernet.py',
    '../_base_/datasets/camvid_half.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/search_short.py',
]
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        num_layers=8, num_blocks=2, filter_multiplier=4, stem_channels=16
    ),
    decode_head=dict(
        # num_blocks * filter_multiplier * (1, 2, 4, 8)
        in_channels=[8, 16, 32, 64],
        num_classes=11,
        # The paper's rate of 96 is for crops of 321 pixels.
        rate=32,
    ),
)
train_dataloader = dict(sampler=dict(type='SplitInfiniteSampler'))
