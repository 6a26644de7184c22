"""Settings of models that do not go together, and those that do."""

import ast
import copy
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.models.losses import CrossEntropyLoss
from torch.nn import functional as F

from mmseg_autodeeplab.cli import check_channels, check_losses, read_config
from mmseg_autodeeplab.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SEARCH = 'autodeeplab/search_demo.py'
DERIVED = 'autodeeplab/autodeeplab-s_8xb2-40k_cityscapes-769x769.py'
UPERNET = 'stock_heads/upernet_autodeeplab-s_4xb2-40k_cityscapes-512x1024.py'
PSPNET = 'stock_heads/pspnet_autodeeplab-s_4xb2-40k_cityscapes-512x1024.py'
CROSS_ENTROPY = dict(type='CrossEntropyLoss')
SIGMOID = dict(CROSS_ENTROPY, use_sigmoid=True)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


read_once = cache(read_config)


def config(file, **options):
    """A config of ours; in the options' names, __ stands for a dot."""
    cfg = copy.deepcopy(read_once(str(CONFIGS / file)))
    for name, value in options.items():
        cfg.merge_from_dict({f'model.{name.replace("__", ".")}': value})
    return cfg


def refusal(check, cfg):
    with pytest.raises(UserError) as error:
        check(cfg)
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    'file',
    [SEARCH, DERIVED, UPERNET, PSPNET, 'autodeeplab/search_cityscapes.py'],
)
def test_our_configs_pass(file):
    cfg = config(file)
    check_channels(cfg)
    check_losses(cfg)
    # As with --tta.
    cfg.model = dict(type='SegTTAModel', module=cfg.model)
    check_channels(cfg)


@pytest.mark.parametrize(
    'file, head, options, needed',
    [
        (SEARCH, 'decode_head', dict(filter_multiplier=16), '[32,64,128,256]'),
        (SEARCH, 'decode_head', dict(num_blocks=5), '[20,40,80,160]'),
        (DERIVED, 'decode_head', dict(filter_multiplier=4), '[20,40]'),
        (DERIVED, 'decode_head', dict(out_indices=(0, 2)), '[100,400]'),
        (UPERNET, 'decode_head', dict(filter_multiplier=4), '[20,40,80,160]'),
        (PSPNET, 'decode_head', dict(filter_multiplier=4), '40'),
        (PSPNET, 'auxiliary_head', dict(out_indices=(0, 1, 0, -1)), '100'),
    ],
)
def test_channels_that_a_head_needs_are_told(file, head, options, needed):
    options = {f'backbone__{name}': value for name, value in options.items()}
    cfg = config(file, **options)
    was = cfg.model[head].in_channels
    error = refusal(check_channels, cfg)
    assert error.startswith(f'model.{head}.in_channels is {was}, but ')
    assert error.endswith(
        f'pass --cfg-options model.{head}.in_channels={needed}'
    )
    # Which is right, but for the other head of a PSPNet.
    cfg.model[head].in_channels = ast.literal_eval(needed)
    cfg.model.pop('auxiliary_head', None)
    check_channels(cfg)


def test_a_feature_that_is_not_there():
    cfg = config(DERIVED, decode_head__in_index=(0, 2))
    assert refusal(check_channels, cfg) == (
        'model.decode_head.in_index is (0, 2), but model.backbone gives 2 '
        'features: set indices from 0 to 1'
    )


@pytest.mark.parametrize(
    'file, options, sentence',
    [
        (
            SEARCH,
            dict(backbone__in_channels=4),
            'data_preprocessor.mean has 3 values, but model.backbone takes '
            'in_channels=4: give 4 values of mean and of std',
        ),
        (
            SEARCH,
            dict(data_preprocessor__mean=[0] * 4),
            'mean has 4 values, but model.backbone takes in_channels=3',
        ),
        (
            DERIVED,
            dict(data_preprocessor__std=[1] * 2),
            'std has 2 values, but model.backbone takes in_channels=3',
        ),
        (DERIVED, dict(data_preprocessor__std=None), 'std has 0 values, but'),
        # A stock backbone, whose own default counts.
        (
            'camvid/deeplabv3plus_r18-d8_1xb4-600i_camvid-128x128.py',
            dict(data_preprocessor__mean=[0] * 4),
            'mean has 4 values, but model.backbone takes in_channels=3',
        ),
    ],
)
def test_means_are_of_as_many_channels_as_images(file, options, sentence):
    assert sentence in refusal(check_channels, config(file, **options))


def test_means_that_fit():
    four = dict(
        backbone__in_channels=4,
        data_preprocessor__mean=[0] * 4,
        data_preprocessor__std=[1] * 4,
    )
    one = dict(data_preprocessor__mean=[0], data_preprocessor__std=[1])
    none = dict(
        backbone__in_channels=4,
        data_preprocessor__mean=None,
        data_preprocessor__std=None,
    )
    number = dict(data_preprocessor__mean=9.0, data_preprocessor__std=9.0)
    for options in (four, one, number, none):
        check_channels(config(SEARCH, **options))


@pytest.mark.parametrize(
    'head, sentence',
    [
        (
            dict(num_classes=2, out_channels=1),
            'model.decode_head.loss_decode has use_sigmoid=False, a softmax '
            'over the one logit of out_channels=1, which is always 1: set '
            'use_sigmoid=True, or num_classes=2 without out_channels',
        ),
        (dict(num_classes=1), 'has use_sigmoid=False, a softmax over the one'),
        (
            dict(num_classes=1, loss_decode=[SIGMOID, CROSS_ENTROPY]),
            'has use_sigmoid=False, a softmax over the one logit',
        ),
        (
            dict(num_classes=1, loss_decode=dict(type='LovaszLoss')),
            "has loss_type='multi_class', a softmax over the one logit of "
            "out_channels=1, which is always 1: set loss_type='binary', or",
        ),
        (
            dict(
                num_classes=1,
                loss_decode=dict(type='DiceLoss', use_sigmoid=False),
            ),
            'has use_sigmoid=False, a softmax over the one logit',
        ),
        (
            dict(num_classes=6, out_channels=1, loss_decode=SIGMOID),
            'model.decode_head has out_channels=1 and num_classes=6: set '
            'out_channels=6, or, for two classes in one logit, num_classes=2 '
            'and out_channels=1',
        ),
        (
            dict(num_classes=2, out_channels=3),
            'has out_channels=3 and num_classes=2: set out_channels=2, or',
        ),
        (
            dict(loss_decode=dict(CROSS_ENTROPY, class_weight=[1.0] * 3)),
            'loss_decode.class_weight has 3 values, but its head has 6 logits:'
            ' give one value for each',
        ),
        (
            dict(loss_decode=[CROSS_ENTROPY, dict(SIGMOID, class_weight=[1])]),
            'class_weight has 1 values, but its head has 6 logits',
        ),
        (
            dict(loss_decode=dict(CROSS_ENTROPY, class_weight=[1.0] * 6)),
            'has a class_weight, whose mean MMSegmentation cannot take over '
            'pixels with the label 255, such as padding: set reduction=',
        ),
        (
            dict(ignore_index=0),
            'SegDataPreProcessor pads labels with seg_pad_val=255, which is '
            'no class of model.decode_head, and the head ignores 0: set '
            'seg_pad_val=0, or model.decode_head.ignore_index=255',
        ),
    ],
)
@pytest.mark.parametrize('key', ['decode_head', 'auxiliary_head'])
def test_a_head_and_its_losses_go_together(key, head, sentence):
    cfg = config(SEARCH)
    head = dict(loss_decode=CROSS_ENTROPY) | head
    cfg.model[key] = {**cfg.model.decode_head, **head}
    sentence = sentence.replace('decode_head', key)
    assert sentence in refusal(check_losses, cfg)


@pytest.mark.parametrize(
    'head',
    [
        dict(num_classes=2, loss_decode=CROSS_ENTROPY),
        dict(num_classes=2, out_channels=2, loss_decode=CROSS_ENTROPY),
        dict(num_classes=2, out_channels=1, loss_decode=SIGMOID),
        dict(num_classes=1, loss_decode=SIGMOID),
        dict(num_classes=1, loss_decode=dict(type='DiceLoss')),
        dict(
            num_classes=1,
            loss_decode=dict(type='LovaszLoss', loss_type='binary'),
        ),
        dict(loss_decode=SIGMOID),
        dict(ignore_index=254, pad=254),
        dict(ignore_index=0, pad=0),
        dict(pad=0),  # Padding that is learned.
        dict(
            loss_decode=dict(
                CROSS_ENTROPY, class_weight=[1] * 6, reduction='sum'
            ),
        ),
        dict(
            ignore_index=-100,
            pad=-100,
            loss_decode=dict(CROSS_ENTROPY, class_weight=[1] * 6),
        ),
    ],
)
def test_heads_and_losses_that_do(head):
    cfg = config(SEARCH)
    cfg.model.data_preprocessor.seg_pad_val = head.pop('pad', 255)
    cfg.model.decode_head = {**cfg.model.decode_head, **head}
    check_losses(cfg)


@pytest.mark.parametrize(
    'transform, name',
    [
        (dict(type='RandomRotate', prob=1, degree=9), 'seg_pad_val'),
        (dict(type='mmseg.RandomRotate', prob=1, degree=9), 'seg_pad_val'),
        (dict(type='RandomCutOut', seg_fill_in=255), 'seg_fill_in'),
        (dict(type='Pad', size=(99, 99)), 'pad_val.seg'),
        (dict(type='Pad', size=(9, 9), pad_val=dict(seg=255)), 'pad_val.seg'),
        (
            dict(
                type='RandomChoice',
                transforms=[[dict(type='RandomRotate', prob=1, degree=9)]],
            ),
            'seg_pad_val',
        ),
    ],
)
def test_whatever_pads_labels_is_looked_at(transform, name):
    cfg = config(
        SEARCH, decode_head__ignore_index=0, data_preprocessor__seg_pad_val=0
    )
    check_losses(cfg)
    cfg.train_dataloader.dataset.pipeline.insert(3, transform)
    assert f'pads labels with {name}=255, which' in refusal(check_losses, cfg)


def test_class_weights_of_a_file(tmp_path):
    (tmp_path / 'weights.json').write_text('[1, 2, 3]')
    cfg = config(SEARCH)
    cfg.model.decode_head.loss_decode.class_weight = str(
        tmp_path / 'weights.json'
    )
    assert 'has 3 values, but its head has 6' in refusal(check_losses, cfg)


def test_a_head_with_losses_of_its_own_is_left_alone():
    """As many weights as classes, and one more for no object."""
    cfg = config(SEARCH)
    cfg.model.decode_head = dict(
        type='SideAdapterCLIPHead',
        num_classes=3,
        loss_decode=[dict(CROSS_ENTROPY, class_weight=[1] * 4)],
    )
    check_losses(cfg)


def test_class_weights_with_ignored_pixels_as_the_faq_has_it():
    logits = torch.randn(
        2, 3, 4, 5, generator=torch.Generator().manual_seed(0)
    )
    labels = torch.arange(40).reshape(2, 4, 5) % 3
    labels[0, :2] = 255
    weights = [1.0, 2.0, 5.0]
    with pytest.raises(IndexError):  # Else the refusal has become needless.
        CrossEntropyLoss(class_weight=weights, avg_non_ignore=True)(
            logits, labels, ignore_index=255
        )
    loss = CrossEntropyLoss(
        class_weight=weights, reduction='sum', loss_weight=1 / (2 * 4 * 5)
    )
    expected = F.cross_entropy(
        logits,
        labels,
        torch.tensor(weights),
        ignore_index=255,
        reduction='none',
    )
    found = loss(logits, labels, ignore_index=255)
    assert torch.allclose(found, expected.mean())
