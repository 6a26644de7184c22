# The search of the paper: Cityscapes at half resolution, 321 x 321 crops,
# batch 2, 40 epochs. Flips are ours; the paper names no augmentation.
_base_ = [
    '../_base_/models/autodeeplab_supernet.py',
    '../_base_/datasets/cityscapes_769x769.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/search.py',
]
# Exact; without a GPU, a warning says that there are none.
model = dict(backbone=dict(graphs=True))
crop_size = (321, 321)
train_pipeline = [
    dict(type='LoadCheckedImage'),
    dict(type='LoadCheckedAnnotations'),
    dict(type='Resize', scale=(1024, 512), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1024, 512), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2,
    # Part A for the weights; ArchSearchHook takes part B.
    sampler=dict(type='SplitInfiniteSampler'),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# What tools/decode.py changes in the config that it writes: full resolution
# and the paper's crop. Everything not named here comes from this config or
# from the bases of the published network and its schedule.
retrain = dict(
    # As in the config of the published network.
    custom_hooks=[dict(type='ScheduledDropPathHook', keep_prob=0.7)],
    model=dict(data_preprocessor=dict(size=_base_.crop_size)),
    train_dataloader=dict(dataset=dict(pipeline=_base_.train_pipeline)),
    val_dataloader=dict(dataset=dict(pipeline=_base_.test_pipeline)),
    test_dataloader=dict(dataset=dict(pipeline=_base_.test_pipeline)),
)
