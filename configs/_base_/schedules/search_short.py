# A search of minutes on CPU cores, and a retraining of minutes of what it
# finds.
_base_ = ['./search.py']
max_iters = 800
lr = 0.005
# For so few steps, the quicker optimizer.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=lr, weight_decay=0.01)
)
param_scheduler = [dict(_base_.param_scheduler[0], eta_min=0.04 * lr)]
custom_hooks = [
    dict(
        type='ArchSearchHook',
        begin=max_iters // 4,
        interval=50,
        # More than the paper's 0.003, for a search of some hundred steps.
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
    checkpoint=dict(interval=100),
    search_visualization=dict(interval=50),
)

# What tools/decode.py changes in the config that it writes: a small network
# and its schedule, with the quicker optimizer again.
retrain = dict(
    model=dict(
        backbone=dict(
            filter_multiplier=8,
            stem_channels=16,
            norm_cfg=dict(_replace_=True, type='BN'),
        ),
        decode_head=dict(
            channels=32,
            low_level_channels=16,
            # Those of the paper reach beyond images of this size.
            dilations=(2, 4, 6),
            norm_cfg=dict(_replace_=True, type='BN'),
        ),
    ),
    train_dataloader=dict(batch_size=8),
    optim_wrapper=dict(
        optimizer=dict(
            _replace_=True, type='AdamW', lr=0.005, weight_decay=0.01
        )
    ),
    train_cfg=dict(max_iters=1200, val_interval=600),
    default_hooks=dict(checkpoint=dict(interval=600)),
)
