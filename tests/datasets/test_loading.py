"""Bad files of a data set, and good ones that must pass unchanged."""

import copy
import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import ExifTags, Image

from mmseg_autodeeplab.cli import check_loading
from mmseg_autodeeplab.datasets import (
    LoadCheckedAnnotations,
    LoadCheckedImage,
    ShapesDataset,
    check_pipelines,
    uncheck_pipelines,
)
from mmseg_autodeeplab.errors import UserError

CROP = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=(64, 64),
        ratio_range=(0.8, 1.5),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=(48, 48)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
VAL = [
    dict(type='LoadImageFromFile'),
    # Before the label, as MMSegmentation has it.
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
TTA = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale_factor=r) for r in (0.5, 1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def scenes(tmp_path):
    """The folder of four scenes."""
    ShapesDataset('train', 4, (64, 64), data_root=str(tmp_path))
    return tmp_path / 'train'


def config(scenes, pipeline=CROP):
    return dict(
        type='ShapesDataset',
        data_root=str(scenes.parent),
        split='train',
        num_images=4,
        size=(64, 64),
        pipeline=copy.deepcopy(pipeline),
    )


def checked(cfg, num_classes=6, ignore_index=255):
    """The data set of a config, with checks."""
    check_pipelines(cfg, num_classes, ignore_index)
    return DATASETS.build(cfg)


def png_of_few_bits(path, bits):
    """Write grey values of a few bits, the largest one first."""
    data = np.zeros(64 * 64, np.uint8)
    data[0] = 2**bits - 1
    bitmap = np.packbits(
        np.unpackbits(data[:, None], axis=1)[:, -bits:].reshape(64, -1), axis=1
    )
    rows = np.pad(bitmap, ((0, 0), (1, 0))).tobytes()  # Filter 0 in front.

    def chunk(kind, content):
        body = kind + content
        crc = zlib.crc32(body)
        return struct.pack('>I', len(content)) + body + struct.pack('>I', crc)

    header = struct.pack('>IIBBBBB', 64, 64, bits, 0, 0, 0, 0)
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', zlib.compress(rows))
        + chunk(b'IEND', b'')
    )


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_text(path):
    path.write_text('no image')


def rewrite(change):
    def spoil(path):
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), change(label))

    return spoil


widen = rewrite(lambda label: np.pad(label, ((0, 0), (0, 3))))
make_rgb = rewrite(lambda label: np.stack([label] * 3, -1))


@rewrite
def set_labels(label):
    label[0, :3] = 6, 255, 254
    return label


@rewrite
def exceed_8_bits(label):
    label = label.astype(np.uint16)
    label[0, :2] = 256, 65535  # 0 and 255 in 8 bits
    return label


BAD = [
    ('images', truncate, 'the image {} cannot be read (it does not decode)'),
    ('images', write_text, 'the image {} cannot be read (it does not decode)'),
    ('images', Path.unlink, 'the image {} does not exist'),
    ('labels', truncate, 'the label {} cannot be read (OSError: image file '),
    ('labels', write_text, 'the label {} cannot be read (Unidentified'),
    ('labels', Path.unlink, 'the label {} does not exist'),
    ('labels', widen, 'the label {} has 64 x 67 pixels, but the image '),
    ('labels', make_rgb, 'the label {} has 64 x 64 x 3 pixels, but the '),
    (
        'labels',
        set_labels,
        'the label {} has the values 6, 254, but allowed are 0 to 5 and 255, '
        'which is ignored',
    ),
    (
        'labels',
        exceed_8_bits,
        'the label {} has the values 256, 65535, but allowed are 0 to 255',
    ),
]


@pytest.mark.parametrize('pipeline', [CROP, VAL, TTA])
@pytest.mark.parametrize('kind, spoil, text', BAD)
def test_every_bad_file_is_named(scenes, pipeline, kind, spoil, text):
    dataset = checked(config(scenes, pipeline))
    path = scenes / kind / '00001.png'
    spoil(path)
    with pytest.raises(UserError, match=f'^{re.escape(text.format(path))}'):
        dataset[1]
    dataset[0]  # The others are as they were.


def test_the_label_may_come_first(scenes):
    pipeline = [CROP[1], CROP[0], *CROP[2:]]
    dataset = checked(config(scenes, pipeline))
    assert dataset[1] is not None
    widen(scenes / 'labels' / '00001.png')
    with pytest.raises(UserError, match='has 64 x 67 pixels, but the image'):
        dataset[1]


def test_16_bits_that_8_can_hold(scenes):
    path = scenes / 'labels' / '00001.png'
    dataset = checked(config(scenes, VAL))
    before = dataset[1]['data_samples'].gt_sem_seg.data
    rewrite(lambda label: label.astype(np.uint16))(path)
    assert torch.equal(dataset[1]['data_samples'].gt_sem_seg.data, before)


@pytest.mark.parametrize('pipeline', [CROP, VAL])
def test_good_data_are_the_same_bits(scenes, pipeline):
    """And the random numbers that are drawn after them."""

    def samples(dataset):
        np.random.seed(0)
        found = [dataset[i] for i in (0, 1, 2, 3, 1)]
        return [
            array
            for sample in found
            for array in (
                sample['inputs'],
                sample['data_samples'].gt_sem_seg.data,
            )
        ], np.random.random()

    plain, plain_rng = samples(DATASETS.build(config(scenes, pipeline)))
    found, found_rng = samples(checked(config(scenes, pipeline)))
    assert found_rng == plain_rng
    assert all(torch.equal(a, b) for a, b in zip(plain, found))


def test_a_sample_without_a_label_stays_as_it_is(scenes):
    sample = dict(img_path=str(scenes / 'images' / '00000.png'))
    transform = LoadCheckedAnnotations(num_classes=6)
    assert transform(dict(sample)) == sample
    # As mmseg.apis infers.
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
    check_pipelines(pipeline, 6, 255)
    assert Compose(pipeline)(sample)['inputs'].shape == (3, 64, 64)


def test_another_sample_is_drawn_where_a_pipeline_gives_none(scenes):
    (scenes / 'images' / '00000.png').unlink()
    pipeline = [dict(CROP[0], ignore_empty=True), *CROP[1:]]
    sample = checked(config(scenes, pipeline))[0]
    assert '00000' not in sample['data_samples'].img_path


def test_wrapped_data_sets_are_checked(scenes):
    cfg = dict(
        type='ConcatDataset',
        datasets=[dict(type='RepeatDataset', dataset=config(scenes), times=2)],
    )
    dataset = checked(cfg)
    path = scenes / 'images' / '00003.png'
    truncate(path)
    with pytest.raises(UserError, match=f'the image {path} cannot be read'):
        dataset[4 + 3]


def load(path, label_map=None, reduce_zero_label=False, **kwargs):
    """Load a label alone."""
    sample = dict(
        seg_map_path=str(path),
        label_map=label_map,
        reduce_zero_label=reduce_zero_label,
        seg_fields=[],
    )
    return LoadCheckedAnnotations(**kwargs)(sample)['gt_seg_map']


def label(folder, values, **kwargs):
    """Load a label with such values."""
    path = folder / 'label.png'
    cv2.imwrite(str(path), np.uint8(values))
    return load(path, **kwargs)


def test_what_labels_may_be(tmp_path):
    for values, kwargs in (
        ([[0, 5, 255]], dict(num_classes=6)),
        ([[0, 5, 7]], dict(num_classes=6, ignore_index=7)),
        ([[9]], dict()),
        ([[0, 5]], dict(num_classes=6, ignore_index=-100)),
    ):
        found = label(tmp_path, values, **kwargs)
        assert np.atleast_2d(found).tolist() == values
    with pytest.raises(UserError, match='the values 255, but allowed are 0'):
        label(tmp_path, [[255, 0]], num_classes=6, ignore_index=254)
    with pytest.raises(UserError, match='the values 255, but allowed are 0'):
        label(tmp_path, [[255, 0]], num_classes=6, ignore_index=-100)
    with pytest.raises(UserError, match=r'6, 7, 8, 9, 10, 11, 12, 13, \.\.\.'):
        label(tmp_path, np.arange(99).reshape(9, 11), num_classes=6)


# How labels are stored: the suffix, the type, and values that 8 bits change.
STORED = [
    ('.png', np.uint16, [256, 512]),
    ('.png', np.uint16, [257, 65535]),
    ('.tif', np.uint16, [256, 65535]),
    ('.tif', np.dtype('>u2'), [256, 65535]),
    ('.tif', np.int32, [-1, 65536]),
    ('.tif', np.float32, [0.5, 256.0]),
    ('.tif', np.float32, [-0.5, 300.0]),
]


@pytest.mark.parametrize('backend', ['pillow', 'cv2', 'tifffile'])
@pytest.mark.parametrize('suffix, dtype, values', STORED)
def test_the_values_of_the_file_are_named(
    tmp_path, suffix, dtype, values, backend
):
    if backend == 'tifffile':
        pytest.importorskip('tifffile')
        suffix = '.tif'
    path = tmp_path / f'label{suffix}'
    Image.fromarray(np.array([[0, 1, 2]] * 2, dtype)).save(path)
    found = load(path, imdecode_backend=backend, num_classes=3)
    assert found.tolist() == [[0, 1, 2]] * 2
    Image.fromarray(np.array([[0, *values]] * 2, dtype)).save(path)
    for kwargs in (dict(), dict(num_classes=3)):
        with pytest.raises(UserError) as error:
            load(path, imdecode_backend=backend, **kwargs)
        named = ', '.join(map(str, np.sort(np.array(values, dtype))))
        assert f'{path} has the values {named}, but' in str(error.value)


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
@pytest.mark.parametrize('bits, sentence', [(2, '85'), (4, '17')])
def test_bits_that_decoders_scale(tmp_path, backend, bits, sentence):
    path = tmp_path / 'label.png'
    png_of_few_bits(path, bits)
    with pytest.raises(UserError) as error:
        load(path, imdecode_backend=backend)
    assert str(error.value) == (
        f'the label {path} is stored in {bits} bits per pixel, which are '
        f'scaled to 8 when it is read (1 becomes {sentence}): save it with 8 '
        'bits per pixel'
    )


def test_one_bit_is_read_as_0_and_1_or_refused(tmp_path):
    path = tmp_path / 'label.png'
    png_of_few_bits(path, 1)
    assert np.unique(load(path, num_classes=2)).tolist() == [0, 1]
    with pytest.raises(UserError, match=r'1 bits .* \(1 becomes 255\)'):
        load(path, num_classes=2, imdecode_backend='cv2')


def test_a_palette_holds_classes(tmp_path):
    path = tmp_path / 'label.png'
    palette = Image.fromarray(np.array([[0, 1, 2]] * 2, np.uint8), 'P')
    palette.putpalette([9, 9, 9, 0, 0, 0, 7, 7, 7])
    palette.save(path)
    assert load(path, num_classes=3).tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize(
    'mapping, sentence',
    [
        (
            dict(reduce_zero_label=True),
            'has the values 4, 254, which the data set reads as 3, 253, but',
        ),
        (
            dict(label_map={0: 0, 4: 3}),
            'has the values 4, 254, which the data set reads as 3, 254, but',
        ),
        (dict(), 'has the values 4, 254, but'),
    ],
)
def test_values_are_named_as_before_they_are_mapped(
    tmp_path, mapping, sentence
):
    with pytest.raises(UserError) as error:
        label(tmp_path, [[0, 1, 4, 254, 255]], num_classes=3, **mapping)
    assert sentence in str(error.value)


def turned(folder, orientation, suffix='.jpg', size=(64, 64)):
    """A sample whose image has an EXIF orientation, and its label."""
    image = folder / f'image{suffix}'
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = np.zeros((*size, 3), np.uint8)
    Image.fromarray(pixels).save(image, exif=exif)
    path = folder / 'label.png'
    cv2.imwrite(str(path), np.zeros(size, np.uint8))
    return dict(
        img_path=str(image),
        seg_map_path=str(path),
        label_map=None,
        reduce_zero_label=False,
        seg_fields=[],
    )


def load_both(sample, **kwargs):
    pipeline = [
        dict(type='LoadImageFromFile', **kwargs),
        dict(type='LoadAnnotations'),
    ]
    check_pipelines(pipeline, 6, 255)
    return Compose(pipeline)(dict(sample, seg_fields=[]))


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('color_type', ['color', 'grayscale'])
@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.webp'])
def test_a_turned_image_is_refused(tmp_path, suffix, color_type, backend):
    options = dict(color_type=color_type, imdecode_backend=backend)
    for orientation in range(2, 9):
        sample = turned(tmp_path, orientation, suffix)
        with pytest.raises(UserError) as error:
            load_both(sample, **options)
        assert str(error.value).startswith(
            f'the image {sample["img_path"]} is turned by its EXIF '
            f'orientation {orientation}, but its label is not: save the image'
        )
        # A prediction has no label that might not fit.
        sample.pop('seg_map_path')
        assert load_both(sample, **options)['img_shape'] == (64, 64)


@pytest.mark.parametrize(
    'orientation, options',
    [
        (1, {}),
        (0, {}),  # Neither this nor 9 is known.
        (9, {}),
        (3, dict(color_type='color_ignore_orientation')),
        (3, dict(color_type='unchanged')),
    ],
)
def test_an_orientation_that_turns_nothing(tmp_path, orientation, options):
    sample = turned(tmp_path, orientation)
    assert load_both(sample, **options)['img_shape'] == (64, 64)


def test_tiff_files_are_turned_whatever_the_type_of_colour(tmp_path):
    with pytest.raises(UserError, match='is turned by its EXIF orientation'):
        load_both(turned(tmp_path, 3, '.tif'), color_type='unchanged')


def test_the_size_tells_quarter_turns(tmp_path):
    sample = turned(tmp_path, 6, size=(64, 80))
    with pytest.raises(UserError, match='has 64 x 80 pixels, but the image'):
        load_both(sample)
    cv2.imwrite(sample['seg_map_path'], np.zeros((80, 64), np.uint8))
    assert load_both(sample)['img_shape'] == (80, 64)
    with pytest.raises(UserError, match='is turned by its EXIF orientation 3'):
        load_both(turned(tmp_path, 3, size=(64, 80)))


def test_damaged_exif_turns_nothing(tmp_path):
    sample = turned(tmp_path, 3)
    path = Path(sample['img_path'])
    path.write_bytes(
        re.sub(rb'Exif..(MM|II)', b'Exif\0\0XX', path.read_bytes())
    )
    assert load_both(sample)['img_shape'] == (64, 64)


@pytest.mark.parametrize(
    'image',
    [
        'LoadImageFromFile',
        'mmcv.transforms.LoadImageFromFile',
        LoadImageFromFile,
    ],
)
@pytest.mark.parametrize(
    'annotations',
    ['LoadAnnotations', 'mmseg.LoadAnnotations', LoadAnnotations],
)
def test_stock_types_are_known_by_their_class(image, annotations):
    pipeline = [
        dict(type=image, color_type='unchanged'),
        dict(type=annotations, reduce_zero_label=True),
    ]
    check_pipelines(pipeline, 6, 254)
    built = [TRANSFORMS.build(cfg) for cfg in pipeline]
    assert [type(t) for t in built] == [
        LoadCheckedImage,
        LoadCheckedAnnotations,
    ]
    assert built[0].color_type == 'unchanged'
    assert (built[1].num_classes, built[1].ignore_index) == (6, 254)
    # There and back.
    uncheck_pipelines(pipeline)
    assert pipeline == [
        dict(type='LoadImageFromFile', color_type='unchanged'),
        dict(type='LoadAnnotations', reduce_zero_label=True),
    ]


def test_other_loaders_stay():
    @TRANSFORMS.register_module()
    class LoadOwnAnnotations(LoadAnnotations):
        pass

    pipeline = [
        dict(type='LoadOwnAnnotations'),
        dict(type='LoadImageFromNDArray'),
    ]
    try:
        before = copy.deepcopy(pipeline)
        check_pipelines(pipeline, 6, 255)
        assert pipeline == before
    finally:
        TRANSFORMS.module_dict.pop('LoadOwnAnnotations')


def whole(scenes, **head):
    loader = dict(dataset=config(scenes))
    return Config(
        dict(
            model=dict(decode_head=dict(dict(num_classes=6), **head)),
            train_dataloader=loader,
            val_dataloader=dict(dataset=config(scenes, VAL)),
            test_dataloader=dict(dataset=config(scenes, TTA)),
        )
    )


def test_the_tools_check_the_parts_that_they_use(scenes):
    cfg = whole(scenes, ignore_index=254)
    before = copy.deepcopy(cfg.test_dataloader)
    check_loading(cfg, 'train', 'val')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        found = [t for t in loader.dataset.pipeline if 'Annot' in t.type]
        assert found == [
            dict(
                type='mmseg.LoadCheckedAnnotations',
                num_classes=6,
                ignore_index=254,
            )
        ]
    # What mmseg.apis reads in the config of a checkpoint.
    assert cfg.test_dataloader == before
    check_loading(cfg, 'test')
    assert 'LoadCheckedAnnotations' in str(cfg.test_dataloader)


def annotations(cfg):
    check_loading(cfg, 'train')
    return cfg.train_dataloader.dataset.pipeline[1]


def test_the_head_tells_what_labels_may_be(scenes):
    # One logit tells two classes apart.
    assert annotations(whole(scenes, num_classes=1)).num_classes == 2
    # The last of a cascade is the one that predicts.
    cfg = whole(scenes)
    cfg.model.decode_head = [dict(num_classes=9), dict(num_classes=6)]
    assert annotations(cfg).num_classes == 6
    # As with --tta.
    cfg = whole(scenes, ignore_index=7)
    cfg.model = dict(type='SegTTAModel', module=cfg.model)
    assert annotations(cfg).ignore_index == 7
    # A model of another kind does not tell.
    cfg = whole(scenes)
    cfg.model = dict(type='Other')
    assert annotations(cfg).num_classes is None


@pytest.mark.parametrize('wrapped', [False, True])
def test_classes_of_model_and_data_must_agree(scenes, wrapped):
    cfg = whole(scenes, num_classes=19)
    if wrapped:
        cfg.train_dataloader.dataset = dict(
            type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset
        )
    with pytest.raises(UserError) as error:
        check_loading(cfg, 'train')
    assert str(error.value).startswith(
        'the model has num_classes=19, but ShapesDataset has 6 classes: set '
        'model.decode_head.num_classes=6'
    )


def test_classes_that_metainfo_chooses(scenes, tmp_path):
    cfg = whole(scenes, num_classes=2)
    cfg.train_dataloader.dataset.metainfo = dict(classes=('a', 'b'))
    check_loading(cfg, 'train')
    # Or a file lists them.
    (tmp_path / 'classes.txt').write_text('a\nb\nc\n')
    cfg.train_dataloader.dataset.metainfo = dict(
        classes=str(tmp_path / 'classes.txt')
    )
    with pytest.raises(UserError, match='ShapesDataset has 3 classes'):
        check_loading(cfg, 'train')
