"""Whether the settings of a model go together, before it is built."""

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Pad
from mmengine.config import Config
from mmengine.registry import Registry
from mmseg.models import SegDataPreProcessor
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.models.losses.utils import get_class_weight
from mmseg.registry import MODELS, TRANSFORMS

from ..compat.registry import is_a, resolve
from ..datasets import transforms_in
from ..errors import UserError
from ..models.backbones import AutoDeepLab, AutoDeepLabSupernet

# What a loss says when it takes one logit for two classes.
BINARY = dict(use_sigmoid=True, loss_type='binary')


def check_channels(cfg: Config) -> None:
    """Raise a :class:`UserError` where numbers of channels contradict.

    Those of the images, in ``data_preprocessor`` and in the backbone, and
    those of the features of our backbones, which a head has to be told.
    """
    model = _segmentor(cfg)
    backbone = model.get('backbone') or {}
    _check_normalization(
        model.get('data_preprocessor') or {},
        _option(MODELS, backbone, 'in_channels'),
    )
    ours = is_a(MODELS, backbone, AutoDeepLab, AutoDeepLabSupernet)
    if not ours or model.get('neck'):
        return
    with torch.device('meta'):  # Neither memory nor numbers.
        given = MODELS.build(backbone).out_channels
    for key, head in _heads(model):
        _check_in_channels(key, head, given)


def check_losses(cfg: Config) -> None:
    """Raise a :class:`UserError` where a head and its losses contradict.

    Or where labels are padded with what is neither a class nor ignored.
    """
    model = _segmentor(cfg)
    pads = list(_label_pads(model, cfg.get('train_dataloader')))
    for key, head in _heads(model):
        classes = head.get('num_classes')
        own = resolve(MODELS, head['type']).loss_by_feat
        # A loss of another kind may have other needs.
        if classes is None or own is not BaseDecodeHead.loss_by_feat:
            continue
        logits = head.get('out_channels') or classes
        if logits not in (1, classes) or (logits == 1 and classes > 2):
            raise UserError(
                f'{key} has out_channels={logits} and num_classes={classes}: '
                f'set out_channels={classes}, or, for two classes in one '
                'logit, num_classes=2 and out_channels=1'
            )
        ignored = _option(MODELS, head, 'ignore_index')
        losses = _option(MODELS, head, 'loss_decode')
        for loss in losses if isinstance(losses, (list, tuple)) else [losses]:
            _check_loss(f'{key}.loss_decode', loss, logits)
            _check_class_weight(f'{key}.loss_decode', loss, logits, ignored)
        for kind, name, value in pads:
            if value != ignored and not 0 <= value < max(classes, 2):
                raise UserError(
                    f'{kind} pads labels with {name}={value}, which is no '
                    f'class of {key}, and the head ignores {ignored}: set '
                    f'{name}={ignored}, or {key}.ignore_index={value}'
                )


def _segmentor(cfg):
    return cfg.model.get('module', cfg.model)


def _heads(model) -> Iterator[tuple[str, dict]]:
    """Keys and configs of the heads; a cascade has several."""
    for name in ('decode_head', 'auxiliary_head'):
        heads = model.get(name) or []
        several = isinstance(heads, (list, tuple))
        for i, head in enumerate(heads if several else [heads]):
            if is_a(MODELS, head, BaseDecodeHead):
                yield f'model.{name}' + f'.{i}' * several, head


def _option(registry: Registry, cfg: dict, name: str) -> Any:
    """What a config says, or its class by default; None if neither does."""
    if name in cfg:
        return cfg[name]
    cls = resolve(registry, cfg.get('type'))
    for base in inspect.getmro(cls) if isinstance(cls, type) else ():
        found = inspect.signature(base.__init__).parameters.get(name)
        if found and found.default is not found.empty:
            return found.default
    return None


def _check_normalization(preprocessor, channels):
    stock = resolve(MODELS, preprocessor.get('type')) is SegDataPreProcessor
    mean, std = preprocessor.get('mean'), preprocessor.get('std')
    if not stock or mean is None or not isinstance(channels, int):
        return
    for name, values in dict(mean=mean, std=std).items():
        count = 0 if values is None else np.size(values)
        if count not in (1, channels):
            raise UserError(
                f'model.data_preprocessor.{name} has {count} values, but '
                f'model.backbone takes in_channels={channels}: give '
                f'{channels} values of mean and of std'
            )


def _check_in_channels(key, head, given):
    index, found = _option(MODELS, head, 'in_index'), head.get('in_channels')
    if index is None or found is None:  # The head knows itself.
        return
    several = isinstance(index, (list, tuple))
    indices = index if several else [index]
    if not all(-len(given) <= i < len(given) for i in indices):
        raise UserError(
            f'{key}.in_index is {index}, but model.backbone gives '
            f'{len(given)} features: set indices from 0 to {len(given) - 1}'
        )
    needed = [given[i] for i in indices]
    needed = needed if several else needed[0]
    if (list(found) if isinstance(found, tuple) else found) != needed:
        raise UserError(
            f'{key}.in_channels is {found}, but model.backbone gives {given} '
            f'channels: pass --cfg-options {key}.in_channels='
            f'{str(needed).replace(" ", "")}'
        )


def _check_loss(key, loss, logits):
    for name, binary in BINARY.items():
        value = _option(MODELS, loss, name)
        if logits == 1 and value not in (None, binary):
            raise UserError(
                f'{key} has {name}={value!r}, a softmax over the one logit '
                'of out_channels=1, which is always 1: set '
                f'{name}={binary!r}, or num_classes=2 without out_channels'
            )


def _check_class_weight(key, loss, logits, ignored):
    weights = get_class_weight(_option(MODELS, loss, 'class_weight'))
    if weights is None:
        return
    if len(weights) != logits:
        raise UserError(
            f'{key}.class_weight has {len(weights)} values, but its head has '
            f'{logits} logits: give one value for each'
        )
    # MMSegmentation looks the weight up for the mean, of ignored pixels too.
    looks_up = (
        is_a(MODELS, loss, CrossEntropyLoss)
        and not (loss.get('use_sigmoid') or loss.get('use_mask'))
        and loss.get('reduction', 'mean') == 'mean'
    )
    if looks_up and ignored >= logits:
        raise UserError(
            f'{key} has a class_weight, whose mean MMSegmentation cannot take '
            f'over pixels with the label {ignored}, such as padding: set '
            "reduction='sum' and loss_weight to 1 / (images per GPU x pixels "
            'of the crop), or, if every pixel has a class, ignore_index of '
            'the head and seg_pad_val of data_preprocessor to -100'
        )


def _label_pads(model, loader):
    """What pads labels, by which setting, and with what."""
    transforms = [(TRANSFORMS, found) for found, _ in transforms_in(loader)]
    preprocessor = model.get('data_preprocessor') or {}
    for registry, cfg in [(MODELS, preprocessor), *transforms]:
        for name in ('seg_pad_val', 'seg_fill_in'):
            value = _option(registry, cfg, name)
            if value is not None:
                yield cfg['type'], name, value
        if is_a(registry, cfg, Pad):
            value = _option(registry, cfg, 'pad_val')
            seg = value.get('seg', 255) if isinstance(value, dict) else 255
            yield cfg['type'], 'pad_val.seg', seg
