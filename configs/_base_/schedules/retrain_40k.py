# 40 000 iterations, one of MMSegmentation's usual lengths, of the paper's
# recipe; without scheduled drop path, which regularises runs of thousands of
# epochs.
_base_ = ['./retrain.py']
max_iters = 40000
train_cfg = dict(max_iters=max_iters, val_interval=4000)
default_hooks = dict(checkpoint=dict(interval=4000))
