# The schedule of the paper on COCO and ADE20K, 4 M iterations.
_base_ = ['./retrain.py']
max_iters = 4000000
train_cfg = dict(max_iters=max_iters, val_interval=100000)
