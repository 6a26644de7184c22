# A recipe of our own, since the authors gave none for their final networks.
# Adam, its rates for decoder and backbone, weight decay and the bound on
# gradients are those of the second stage of their proxy; poly decay and length
# are MMSegmentation's.
_base_ = ['./retrain.py']
max_iters = 160000
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='Adam', lr=0.002, weight_decay=1e-5),
    paramwise_cfg=dict(
        _delete_=True, custom_keys=dict(backbone=dict(lr_mult=0.25))
    ),
    clip_grad=dict(_delete_=True, max_norm=3),
)
train_cfg = dict(max_iters=max_iters, val_interval=16000)
default_hooks = dict(checkpoint=dict(interval=16000))
