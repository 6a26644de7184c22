# The paper's proxy: 30 000 iterations of batch 8, one validation at the end.
_base_ = ['./dpc_90k.py']
max_iters = 30000
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=5000))
