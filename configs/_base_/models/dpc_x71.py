# The published cell on Xception-71 of timm (pip install timm) at output stride
# 16, with the decoder of DeepLabv3+: the network of the released checkpoints.
_base_ = './dpc_mobilenet-v2.py'
model = dict(
    # Inputs in [-1, 1], as the weights of timm, which are the authors', want.
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='TIMMBackbone',
        model_name='xception71',
        features_only=True,
        pretrained=True,
        output_stride=16,
        out_indices=(1, 4),
    ),
    # Of the low-level feature, at stride 4, and of the final one.
    decode_head=dict(in_channels=(256, 2048), low_level_channels=48),
)
# timm makes plain batch norm; over the processes of a training it becomes:
sync_bn = 'torch'
