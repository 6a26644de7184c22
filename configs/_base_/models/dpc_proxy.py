# The network of the paper's proxy: MobileNetV2 at output stride 16, frozen, so
# that its features can be cached. Its weights are those of DeepLabv3 on COCO,
# as configs/dpc/backbone_mobilenet-v2_4xb4-90k_coco-voc21-513x513.py trains
# them; a FILE of your own: --cfg-options
# model.backbone.backbone.init_cfg.checkpoint=FILE.
_base_ = './dpc_mobilenet-v2.py'
model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='FrozenBackbone',
        backbone=dict(
            type='MobileNetV2',
            widen_factor=1.0,
            strides=(1, 2, 2, 2, 1, 1, 1),
            dilations=(1, 1, 1, 1, 1, 2, 2),
            out_indices=(1, 6),
            norm_cfg=dict(type='BN'),
            init_cfg=dict(
                type='Pretrained',
                checkpoint='work_dirs/backbone_mobilenet-v2_4xb4-90k_coco-voc21-513x513/iter_90000.pth',  # noqa: E501
                prefix='backbone.',
            ),
        ),
    ),
)
