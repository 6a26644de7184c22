# From scratch, as the paper trains on Cityscapes: poly learning rate from
# 0.05 over 1.5 M iterations. Momentum, power, weight decay (of convolution
# weights alone) and the doubled rate of biases are the authors' code's.
_base_ = ['./iter_based.py']
max_iters = 1500000
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=4e-5),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, bias_lr_mult=2.0
    ),
    clip_grad=None,
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0, by_epoch=False)]
train_cfg = dict(max_iters=max_iters, val_interval=50000)
default_hooks = dict(checkpoint=dict(interval=10000))
