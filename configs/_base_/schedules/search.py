# First-order alternating search (Sec. 4.1). All numbers here but the
# intervals are the paper's, and so is the length: 40 epochs of batch 2 over
# one half of Cityscapes' 2975 images, 744 iterations each, the architecture
# from epoch 20 on. Adam's betas are PyTorch's; the paper does not give them.
_base_ = ['./iter_based.py']
max_iters = 29760
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.025, momentum=0.9, weight_decay=3e-4),
    clip_grad=None,
)
# It ends with the training, of any length, as each schedule here.
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0.001, by_epoch=False)
]
custom_hooks = [
    dict(
        type='ArchSearchHook',
        begin=max_iters // 2,
        interval=744,
        optimizer=dict(type='Adam', lr=0.003, weight_decay=0.001),
    )
]
train_cfg = dict(max_iters=max_iters, val_interval=3720)
default_hooks = dict(
    checkpoint=dict(interval=744),
    search_visualization=dict(type='SearchVisualizationHook', interval=372),
)
