# Scenes on which networks of one space are a dozen points of mIoU apart after
# a minute of training, to compare ways to search on two CPU cores within half
# an hour (tools/analysis_tools/compare_search.py).
_base_ = ['./search_demo.py']
scenes = dict(hard=True, data_root='data/shapes_hard')
train_dataloader = dict(batch_size=4, dataset=scenes)
val_dataloader = dict(dataset=scenes)
test_dataloader = dict(dataset=scenes)
# The paper's rate of 96 is for crops of 321 pixels.
model = dict(decode_head=dict(rate=32))

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
        optimizer=dict(type='Adam', lr=0.03, weight_decay=0.001),
        # Against skip connections that win early.
        terms=[dict(type='LogSumExpTerm', weight=1)],
        # Where a path ends, no search can learn: we chose, for small dots.
        score='inflow:4',
    )
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=150))

retrain_iters = 600
retrain = dict(
    model=dict(
        backbone=dict(filter_multiplier=8), decode_head=dict(channels=32)
    ),
    optim_wrapper=dict(optimizer=dict(lr=0.005)),
    param_scheduler=[
        dict(_base_.retrain.param_scheduler[0], end=retrain_iters)
    ],
    train_cfg=dict(max_iters=retrain_iters, val_interval=300),
    default_hooks=dict(checkpoint=dict(interval=300)),
)
