# The schedule of the paper on COCO and ADE20K, 4 M iterations.
_base_ = ['./retrain.py']
max_iters = 4000000
param_scheduler = [
    dict(
        type='PolyLR',
        power=0.9,
        eta_min=0,
        begin=0,
        end=max_iters,
        by_epoch=False,
    )
]
train_cfg = dict(max_iters=max_iters, val_interval=100000)
