# As the paper trains a network of the real size: poly learning rate from 0.01
# over 90 000 iterations of batch 16. Momentum, power and weight decay are the
# authors' code's; depthwise kernels have none there.
_base_ = ['./retrain.py']
max_iters = 90000
optim_wrapper = dict(
    optimizer=dict(lr=0.01), paramwise_cfg=dict(dwconv_decay_mult=0.0)
)
train_cfg = dict(max_iters=max_iters, val_interval=9000)
default_hooks = dict(checkpoint=dict(interval=9000))
