# Auto-DeepLab-S with PyTorch's batch norm, whose running statistics keep up
# with a schedule of minutes.
_base_ = [
    '../_base_/models/autodeeplab.py',
    '../_base_/datasets/camvid_half.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/camvid_600i.py',
]
norm_cfg = dict(_delete_=True, type='BN')
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(norm_cfg=norm_cfg),
    decode_head=dict(num_classes=11, norm_cfg=norm_cfg),
)
