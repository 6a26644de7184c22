# The relaxed network of the search. L = 12, B = 5, F = 8, the two-layer stem
# and the simplified ASPP are the paper's (Sec. 4.1); the widths of the stem
# and batch norm without affine parameters are ours, since the paper gives
# neither.
norm_cfg = dict(type='BN', affine=False)
data_preprocessor = dict(
    type='SegDataPreProcessor',
    # Inputs in [-1, 1], as in the authors' code.
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(321, 321),
)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    pretrained=None,
    backbone=dict(
        type='AutoDeepLabSupernet',
        num_layers=12,
        num_blocks=5,
        filter_multiplier=8,
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='AutoDeepLabSearchHead',
        # B * F * (1, 2, 4, 8)
        in_channels=[40, 80, 160, 320],
        num_classes=19,
        dropout_ratio=0,
        norm_cfg=norm_cfg,
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
