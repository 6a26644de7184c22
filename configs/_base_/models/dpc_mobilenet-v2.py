# The published cell on MobileNetV2 at output stride 16, without a decoder: the
# network of the paper's proxy task, and of the first rows of its Table 1.
# Batch norm of the head as in the authors' code: decay 0.9997, eps 1e-5.
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
        type='MobileNetV2',
        widen_factor=1.0,
        strides=(1, 2, 2, 2, 1, 1, 1),
        dilations=(1, 1, 1, 1, 1, 2, 2),
        # The head reads the last; a backbone of one gives a bare tensor.
        out_indices=(1, 6),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    decode_head=dict(
        type='DPCHead',
        arch='dpc',
        in_channels=320,
        channels=256,
        output_stride=16,
        num_classes=19,
        dropout_ratio=0.1,
        norm_cfg=dict(type='SyncBN', momentum=3e-4, eps=1e-5),
        align_corners=True,
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
