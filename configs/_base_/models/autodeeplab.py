# The published network; F = 20, 32, 48 are Auto-DeepLab-S, -M and -L.
# Batch norm as in the authors' code: decay 0.9997, eps 1e-3 in the backbone
# and 1e-5 in the head. Short schedules want PyTorch's momentum of 0.1.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    # Inputs in [-1, 1], as in the authors' code.
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(769, 769),
)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    pretrained=None,
    backbone=dict(
        type='AutoDeepLab',
        arch='autodeeplab',
        filter_multiplier=20,
        norm_cfg=dict(type='SyncBN', momentum=3e-4, eps=1e-3),
    ),
    decode_head=dict(
        type='AutoDeepLabHead',
        # 5 * F * (1, 2): the low-level and the final feature
        in_channels=[100, 200],
        channels=256,
        low_level_channels=48,
        # For the final stride of 8; the paper does not state its rates.
        dilations=(12, 24, 36),
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
