# What every schedule has: loops that count iterations, and hooks. Lengths and
# intervals are the schedules' own.
train_cfg = dict(type='SeededIterBasedTrainLoop')
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    runtime_info=dict(type='RuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook',
        by_epoch=False,
        max_keep_ckpts=3,
        backend_args=dict(backend='atomic'),
    ),
    checkpoint_room=dict(type='CheckpointRoomHook'),
    finite_loss=dict(type='FiniteLossHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
    data_guard=dict(type='DataGuardHook'),
    sync_statistics=dict(type='SyncStatisticsHook'),
)
