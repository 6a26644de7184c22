# A search to watch on two CPU cores in minutes: generated scenes, on which
# networks of one space are a dozen points of mIoU apart after a minute of
# training, and a small supernet.
_base_ = [
    '../_base_/models/autodeeplab_supernet.py',
    '../_base_/datasets/shapes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/search.py',
]
scenes = dict(hard=True, data_root='data/shapes_hard')
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    backbone=dict(
        num_layers=4, num_blocks=2, filter_multiplier=4, stem_channels=16
    ),
    decode_head=dict(
        # num_blocks * filter_multiplier * (1, 2, 4, 8)
        in_channels=[8, 16, 32, 64],
        num_classes=6,
        # The paper's rate of 96 is for crops of 321 pixels.
        rate=32,
    ),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    sampler=dict(type='SplitInfiniteSampler'),
    dataset=scenes,
)
val_dataloader = dict(num_workers=1, dataset=scenes)
test_dataloader = dict(num_workers=1, dataset=scenes)

max_iters = 450
lr = 0.005
# For so few steps, the quicker optimizer.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=lr, weight_decay=0.01)
)
param_scheduler = [
    dict(_base_.param_scheduler[0], eta_min=0.04 * lr, end=max_iters)
]
custom_hooks = [
    dict(
        type='ArchSearchHook',
        begin=max_iters // 4,
        interval=50,
        # More than the paper's 0.003, for a search of 340 steps.
        optimizer=dict(type='Adam', lr=0.03, weight_decay=0.001),
        terms=[
            # Against skip connections that win early.
            dict(type='LogSumExpTerm', weight=1),
            # Choices are to settle, of paths no more than the data let them.
            dict(
                type='EntropyTerm',
                alpha_weight=4,
                beta_weight=0.1,
                ramp=(0.4, 0.65),
                inflow=True,
            ),
        ],
        # Where a path ends, no search can learn: the paper's ends here.
        score='inflow:8',
    ),
    # So that alphas tell operations apart that have to work alone.
    dict(type='SampledWeightsHook', share=0.7),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=150),
    search_visualization=dict(interval=25),
)

# What tools/decode.py changes in the config that it writes: a small network
# and a schedule of a minute, for which AdamW is the quicker optimizer.
retrain_iters = 600
retrain = dict(
    model=dict(
        backbone=dict(
            filter_multiplier=8,
            stem_channels=16,
            norm_cfg=dict(_delete_=True, type='BN'),
        ),
        decode_head=dict(
            channels=32,
            low_level_channels=16,
            # Those of the paper reach beyond images of this size.
            dilations=(2, 4, 6),
            norm_cfg=dict(_delete_=True, type='BN'),
        ),
    ),
    train_dataloader=dict(batch_size=8),
    optim_wrapper=dict(
        optimizer=dict(
            _delete_=True, type='AdamW', lr=0.005, weight_decay=0.01
        )
    ),
    param_scheduler=[
        dict(
            type='PolyLR',
            power=0.9,
            eta_min=0,
            begin=0,
            end=retrain_iters,
            by_epoch=False,
        )
    ],
    train_cfg=dict(max_iters=retrain_iters, val_interval=300),
    default_hooks=dict(checkpoint=dict(interval=300)),
)
