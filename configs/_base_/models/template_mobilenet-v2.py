# A published network: a decoder of templates on the first three stages of
# MobileNetV2, as the authors trained it in the end: 64 filters ahead of the
# classifier, two units in each separable convolution.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(769, 769),
)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    pretrained='mmcls://mobilenet_v2',
    backbone=dict(
        type='TruncatedMobileNetV2',
        # 24 channels at stride 4, 32 at stride 8.
        out_indices=(1, 2),
        # The authors' has a 1x1 convolution more, which those weights lack.
        expand_first=False,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    decode_head=dict(
        type='TemplateHead',
        arch='arch0',
        in_channels=(24, 32),
        in_index=(0, 1),
        channels=64,
        sep_repeats=2,
        stride_everywhere=True,
        num_classes=19,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        align_corners=False,
        # Averaged over labelled pixels, as in the authors' code.
        loss_decode=dict(
            type='CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=1.0,
            avg_non_ignore=True,
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
