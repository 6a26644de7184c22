"""Configs of MMSegmentation's own zoo, with another backbone."""

from pathlib import Path

import mmseg
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'stock_heads'
ZOO = Path(mmseg.__file__).parent / '.mim' / 'configs'
SUFFIX = '4xb2-40k_cityscapes-512x1024.py'
STRIDES = {'pspnet': [4, 16, 8, 8], 'upernet': [4, 8, 16, 32]}


def load(head):
    return Config.fromfile(FOLDER / f'{head}_autodeeplab-s_{SUFFIX}')


def leaves(value, key=''):
    """Flatten a config; MMEngine notes from where it read its parts."""
    if isinstance(value, dict):
        items = [(k, v) for k, v in value.items() if k != '_scope_']
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        yield key, value
        return
    for k, v in items:
        yield from leaves(v, f'{key}.{k}')


def test_every_config_is_tested():
    assert {path.name for path in FOLDER.glob('*.py')} == {
        f'{head}_autodeeplab-s_{SUFFIX}' for head in STRIDES
    }


@pytest.mark.parametrize(
    'head,stock', [('pspnet', 'pspnet_r50-d8'), ('upernet', 'upernet_r50')]
)
def test_only_backbone_and_channels_are_replaced(head, stock):
    """And the loss is averaged over labelled pixels."""
    zoo = Config.fromfile(ZOO / head / f'{stock}_{SUFFIX}')
    ours, theirs = (dict(leaves(cfg.to_dict())) for cfg in (load(head), zoo))
    changed = {
        '.'.join(key.split('.')[1:4])
        for key in {**ours, **theirs}
        if ours.get(key, ()) != theirs.get(key, ())
        and not key.startswith(
            ('.model.backbone.', '.custom_imports.', '.loss_decode.')
        )
    }
    assert changed == {
        'model.pretrained',
        'model.decode_head.in_channels',
        'model.auxiliary_head.in_channels',
        'model.decode_head.loss_decode',
        'model.auxiliary_head.loss_decode',
    }


@pytest.mark.parametrize('head', STRIDES)
def test_heads_read_features_of_their_strides(head):
    cfg = load(head)
    init_default_scope('mmseg')
    backbone = MODELS.build(cfg.model.backbone)
    strides = [backbone.arch.path[layer] for layer in backbone.out_layers]
    assert strides == STRIDES[head]
    assert backbone.out_channels == [25 * s for s in STRIDES[head]]
    # The auxiliary head reads what comes before the last of the others.
    for part in (cfg.model.decode_head, cfg.model.auxiliary_head):
        index, channels = part.in_index, part.in_channels
        if isinstance(index, int):
            index, channels = [index], [channels]
        assert [backbone.out_channels[i] for i in index] == list(channels)
    last = backbone.out_layers[-1]
    assert backbone.out_layers[cfg.model.auxiliary_head.in_index] < last
