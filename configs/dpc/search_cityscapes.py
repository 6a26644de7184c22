# The search of the paper on Cityscapes: cells of five branches, each
# trained for 30 000 iterations on cached features of a frozen MobileNetV2,
# batch 8, crop 769. The paper drew 28 000 cells on 370 GPUs. The cache takes
# about 41 GB; dtype='float16' beside crops halves that.
_base_ = [
    '../_base_/models/dpc_proxy.py',
    '../_base_/datasets/cityscapes_769x769.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/dpc_proxy_30k.py',
]
train_dataloader = dict(batch_size=8)

search = dict(
    space=dict(type='DPCSpace', num_branches=5),
    # Uniform, and some near the best so far.
    sampler=dict(type='NearBestSampler'),
    trials=1000,
    reward='mIoU',
    # Crops per image: ours, since the paper gives no number.
    stages=[dict(cache_features=dict(crops=4))],
)
work_dir = 'work_dirs/dpc_search_cityscapes'

# What tools/decode.py changes in the config that it writes: the whole network
# is trained, as the configs of the published cell beside this one train it.
retrain = dict(
    model=dict(
        backbone=dict(
            _delete_=True,
            **dict(
                _base_.model.backbone.backbone,
                norm_cfg=dict(type='SyncBN', requires_grad=True),
            ),
        )
    ),
    train_dataloader=dict(batch_size=2),
    train_cfg=dict(max_iters=90000, val_interval=9000),
    default_hooks=dict(checkpoint=dict(interval=9000)),
)
