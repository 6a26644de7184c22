# First-order alternating search (Sec. 4.1). All numbers here but the
# intervals are the paper's, and so is the length: 40 epochs of batch 2 over
# one half of Cityscapes' 2975 images, 744 iterations each, the architecture
# from epoch 20 on. Adam's betas are PyTorch's; the paper does not give them.
max_iters = 29760
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.025, momentum=0.9, weight_decay=3e-4),
    clip_grad=None,
)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min=0.001,
        begin=0,
        end=max_iters,
        by_epoch=False,
    )
]
custom_hooks = [
    dict(
        type='ArchSearchHook',
        begin=max_iters // 2,
        interval=744,
        optimizer=dict(type='Adam', lr=0.003, weight_decay=0.001),
    )
]
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=3720
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook',
        by_epoch=False,
        interval=744,
        max_keep_ckpts=3,
        backend_args=dict(backend='atomic'),
    ),
    checkpoint_room=dict(type='CheckpointRoomHook'),
    finite_loss=dict(type='FiniteLossHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
    data_guard=dict(type='DataGuardHook'),
    exact_resume=dict(type='ExactResumeHook'),
    search_visualization=dict(type='SearchVisualizationHook', interval=372),
)
