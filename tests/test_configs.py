"""What the configs say. That they run is shown by test_every_config.py."""

import functools
import json
import re
from pathlib import Path

import mmseg
import pytest
import torch
import yaml
from miniature import CONFIGS, PARTS, class_of, heads, innermost, read
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg import registry
from mmseg.registry import MODELS
from mmseg.visualization import SegLocalVisualizer
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_autodeeplab.arch import AutoDeepLabSpace
from mmseg_autodeeplab.engine import SeededIterBasedTrainLoop
from mmseg_autodeeplab.search import retrain_config

ROOT = Path(__file__).resolve().parents[1]
OURS = [
    file
    for file in CONFIGS.values()
    if file.parent.name in ('autodeeplab', 'dpc', 'templates')
]
every_config = pytest.mark.parametrize('file', CONFIGS.values(), ids=CONFIGS)


@every_config
def test_what_is_named_exists_and_takes_its_arguments(file):
    cfg = read(file)
    assert cfg.custom_imports.imports == ['mmseg_autodeeplab']
    init_default_scope('mmseg')
    SegLocalVisualizer.get_instance('of the hooks')
    for hook in (*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])):
        registry.HOOKS.build(hook)
    for part in PARTS:
        assert registry.LOOPS.get(cfg[f'{part}_cfg'].type)
        loader = cfg[f'{part}_dataloader']
        assert registry.DATA_SAMPLERS.get(loader.sampler.type)
        for dataset in innermost(loader.dataset):
            for transform in dataset.pipeline:
                registry.TRANSFORMS.build(transform)
    (*_, tta) = cfg.tta_pipeline
    assert len(tta.transforms[0]) in (3, 6)
    for transform in cfg.tta_pipeline:
        registry.TRANSFORMS.build(transform)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        registry.METRICS.build(evaluator)
    wrapper = build_optim_wrapper(torch.nn.Linear(1, 1), cfg.optim_wrapper)
    for schedule in cfg.param_scheduler:
        # Without an end, it ends with the training, of whatever length.
        length = cfg.train_cfg.max_iters
        assert schedule.get('end', length) == length
        registry.PARAM_SCHEDULERS.build(
            schedule, default_args=dict(optimizer=wrapper.optimizer)
        )


@every_config
def test_the_model_fits_the_data(file):
    """Classes, channels and crops; the network is built, without weights."""
    cfg = read(file)
    classes = {
        len(class_of(dataset).METAINFO['classes'])
        for part in PARTS
        for dataset in innermost(cfg[f'{part}_dataloader'].dataset)
    }
    assert classes == {head.num_classes for head in heads(cfg.model)}
    crop = tuple(cfg.model.data_preprocessor.size)
    assert {
        tuple(t.crop_size) for t in transforms(cfg) if t.type == 'RandomCrop'
    } == {crop}
    # Configs that differ in these alone have one network.
    cfg.model.update(data_preprocessor=None, pretrained=None)
    for head in heads(cfg.model):
        head.num_classes = 2
    check_network(json.dumps(cfg.model.to_dict()))


@functools.cache
def check_network(cfg):
    """What the backbone returns fits the heads."""
    cfg = json.loads(cfg)
    if cfg['backbone']['type'] == 'TIMMBackbone':
        pytest.importorskip('timm')
        cfg['backbone']['pretrained'] = False
    init_default_scope('mmseg')
    with torch.device('meta'), torch.no_grad():
        model = MODELS.build(dict(cfg)).to('meta')
        model = revert_sync_batchnorm(model).eval()
        features = model.extract_feat(torch.empty(1, 3, 128, 64))
        for part in ('decode_head', 'auxiliary_head'):
            if part in cfg:
                logits = getattr(model, part)(features)
                assert logits.shape[:2] == (1, 2)


@every_config
def test_padding_and_void_do_not_scale_the_loss(file):
    """Nor its gradient: both are those of the labelled pixels alone."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 8, 9, generator=generator, requires_grad=True)
    label = torch.randint(5, (2, 8, 9), generator=generator)
    label[0, :, 4:] = label[1, 3:] = 255
    labelled = label != 255
    mean = cross_entropy(logits.movedim(1, -1)[labelled], label[labelled])
    init_default_scope('mmseg')
    for head in heads(read(file).model):
        loss = MODELS.build(head.loss_decode)
        found = loss(logits, label, ignore_index=255)
        expected = head.loss_decode.loss_weight * mean
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(
            *torch.autograd.grad(found, logits),
            *torch.autograd.grad(expected, logits, retain_graph=True),
        )


@pytest.mark.parametrize('file', OURS, ids=lambda file: file.stem)
def test_runs_are_repeatable_and_safe(file):
    cfg = read(file)
    assert cfg.randomness.seed is not None
    assert registry.LOOPS.get(cfg.train_cfg.type) is SeededIterBasedTrainLoop
    hooks = cfg.default_hooks
    assert hooks.checkpoint.backend_args == dict(backend='atomic')
    for name in ('CheckpointRoom', 'FiniteLoss'):
        assert f'{name}Hook' in [hook.type for hook in hooks.values()]


NETWORKS = [file for file in OURS if file.stem.startswith('autodeeplab-')]


@pytest.mark.parametrize('file', NETWORKS, ids=lambda file: file.stem)
def test_name_says_what_is_inside(file):
    cfg = read(file)
    name = re.fullmatch(
        r'autodeeplab-(?P<size>[sml])(_coco-pre)?_(?P<gpus>\d)xb(?P<batch>\d)'
        r'-(?P<thousands>\d+)k_(?P<data>.+)-(?P<crop>\d+)x(?P=crop)',
        file.stem,
    ).groupdict()
    backbone = cfg.model.backbone
    assert backbone.arch == 'autodeeplab'
    assert backbone.filter_multiplier == dict(s=20, m=32, l=48)[name['size']]
    assert cfg.train_dataloader.batch_size == int(name['batch'])
    assert int(name['batch']) * int(name['gpus']) == 16
    iterations = 1000 * int(name['thousands'])
    assert cfg.train_cfg.max_iters == iterations
    assert iterations % cfg.train_cfg.val_interval == 0
    assert iterations % cfg.default_hooks.checkpoint.interval == 0
    crop = int(name['crop'])
    assert tuple(cfg.model.data_preprocessor.size) == (crop, crop)

    # Section 4.2 and the authors' code.
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.05, momentum=0.9, weight_decay=4e-5
    )
    assert cfg.param_scheduler[0].power == 0.9
    assert crop == (769 if 'cityscapes' in name['data'] else 513)
    paper = {'ade20k': 4000, 'coco-voc21': 4000}.get(name['data'], 1500)
    drop_path = [
        hook
        for hook in cfg.get('custom_hooks', [])
        if hook.type == 'ScheduledDropPathHook'
    ]
    assert bool(drop_path) == (iterations == 1000 * paper)
    scales = [
        inner.scale_factor
        for t in transforms(cfg)
        if t.type == 'RandomChoice'
        for (inner,) in t.transforms
    ]
    assert scales[:7] == [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]


def test_weights_of_coco_are_where_its_config_leaves_them():
    for size in 'sml':
        voc = config(
            f'autodeeplab-{size}_coco-pre_4xb4-1500k_voc12aug-513x513'
        )
        _, name, file = Path(voc.load_from).parts
        coco = config(name)
        assert file == f'iter_{coco.train_cfg.max_iters}.pth'
        assert voc.model == coco.model


def transforms(cfg):
    """All transforms of training, of every dataset."""
    found = []
    datasets = [cfg.train_dataloader.dataset]
    while datasets:
        dataset = datasets.pop()
        found += dataset.get('pipeline', [])
        datasets += dataset.get('datasets', [])
        datasets += [dataset['dataset']] if 'dataset' in dataset else []
    return found


def test_the_published_network():
    """Batch norm, inputs, regularisation: the authors' code."""
    cfg = config('autodeeplab-s_8xb2-1500k_cityscapes-769x769')
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    for part, eps in ((model.backbone, 1e-3), (model.decode_head, 1e-5)):
        norms = [m for m in part.modules() if isinstance(m, _BatchNorm)]
        assert {(m.momentum, m.eps) for m in norms} == {(3e-4, eps)}
    # 0 and 255 become -1 and 1.
    preprocessor = model.data_preprocessor
    assert preprocessor.mean.unique().tolist() == [127.5]
    assert preprocessor.std.unique().tolist() == [127.5]

    # Weight decay on convolutions alone, biases at twice the rate.
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(p): name for name, p in model.named_parameters()}
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            convolution = parameter.dim() == 4
            bias = names[id(parameter)] == 'decode_head.conv_seg.bias'
            assert group['weight_decay'] == (4e-5 if convolution else 0)
            assert group['lr'] == (0.1 if bias else 0.05)


def config(name):
    return read(CONFIGS[f'autodeeplab/{name}'])


def test_the_search_of_the_paper():
    """Section 4.1, number by number."""
    cfg = config('search_cityscapes')
    backbone = cfg.model.backbone
    assert backbone.num_layers == 12
    assert backbone.num_blocks == 5
    assert backbone.filter_multiplier == 8
    assert backbone.norm_cfg.affine is False
    assert backbone.graphs and 'form' not in backbone  # Both are exact.

    loader = cfg.train_dataloader
    assert loader.batch_size == 2
    assert loader.sampler.type == 'SplitInfiniteSampler'
    pipeline = {t.type: t for t in loader.dataset.pipeline}
    assert pipeline['Resize'].scale == (1024, 512)
    assert pipeline['RandomCrop'].crop_size == (321, 321)

    # 40 epochs over half of the 2975 images, two at a time.
    iterations_per_epoch = -(-(2975 // 2 + 1) // 2)
    assert cfg.train_cfg.max_iters == 40 * iterations_per_epoch
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer == dict(
        type='SGD', lr=0.025, momentum=0.9, weight_decay=3e-4
    )
    (schedule,) = cfg.param_scheduler
    assert schedule.type == 'CosineAnnealingLR'
    assert schedule.eta_min == 0.001
    (hook,) = cfg.custom_hooks
    assert hook.begin == 20 * iterations_per_epoch
    assert hook.optimizer == dict(type='Adam', lr=0.003, weight_decay=0.001)


def test_the_config_of_the_readme(tmp_path):
    """Search on your own dataset: a stock dataset and another sampler."""
    readme = (ROOT / 'README.md').read_text()
    block = readme.split('<!-- own-dataset -->\n```python\n')[1]
    folder = tmp_path / 'configs' / 'autodeeplab'
    folder.mkdir(parents=True)
    (tmp_path / 'configs' / '_base_').symlink_to(ROOT / 'configs' / '_base_')
    (folder / 'search_mine.py').write_text(block.split('```')[0])
    cfg = Config.fromfile(folder / 'search_mine.py')

    stock = Config.fromfile(
        Path(mmseg.__file__).parent / '.mim/configs/_base_/datasets/loveda.py'
    )
    assert cfg.train_dataloader.sampler.type == 'SplitInfiniteSampler'
    cfg.train_dataloader.pop('sampler')
    # MMEngine notes which library a base comes from.
    cfg.train_dataloader.dataset.pop('_scope_')
    stock.train_dataloader.pop('sampler')
    assert cfg.train_dataloader == stock.train_dataloader
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    assert model.num_classes == 7
    assert tuple(cfg.model.data_preprocessor.size) == stock.crop_size
    found = AutoDeepLabSpace().random(0)
    retrain, _ = retrain_config(cfg, found)
    assert retrain.train_cfg.max_iters == 80000
    assert retrain.train_dataloader.batch_size == 16


@pytest.mark.parametrize('method', ['autodeeplab', 'dpc', 'templates'])
def test_every_config_of_a_network_is_listed(method):
    """In the tables of the zoo's page, and for mim in the metafile."""
    networks = [
        file
        for file in OURS
        if file.parent.name == method
        and not file.stem.startswith(('search_', 'backbone_'))
    ]
    page = (ROOT / 'configs' / method / 'README.md').read_text()
    links = re.findall(r'\]\(([\w.-]+\.py)\)', page)
    assert sorted(links) == sorted(file.name for file in networks)

    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    metafile = f'configs/{method}/metafile.yaml'
    assert metafile in index['Import']
    models = yaml.safe_load((ROOT / metafile).read_text())['Models']
    assert [ROOT / model['Config'] for model in models] == networks
    for model, file in zip(models, networks):
        assert model['Name'] == file.stem
        assert model['Metadata']['Batch Size'] == 16


CELLS = [file for file in OURS if file.stem.startswith('dpc_')]


@pytest.mark.parametrize('file', CELLS, ids=lambda file: file.stem)
def test_name_of_a_cell_says_what_is_inside(file):
    """And the paper's recipe is inside of each."""
    cfg = read(file)
    name = re.fullmatch(
        r'dpc_(?P<backbone>.+)-d(?P<stride>8|16)_(?P<gpus>\d)xb(?P<batch>\d)'
        r'-90k_(?P<data>.+)-(?P<crop>\d+)x(?P=crop)',
        file.stem,
    ).groupdict()
    kind = {
        'mobilenet-v2': dict(type='MobileNetV2'),
        'r101': dict(type='ResNetV1c', depth=101),
        'x65': dict(type='TIMMBackbone', model_name='xception65'),
        'x71': dict(type='TIMMBackbone', model_name='xception71'),
    }[name['backbone']]
    assert dict(cfg.model.backbone, **kind) == cfg.model.backbone
    stride = int(name['stride'])
    head = cfg.model.decode_head
    assert (head.arch, head.output_stride) == ('dpc', stride)
    assert (head.norm_cfg.momentum, head.norm_cfg.eps) == (3e-4, 1e-5)
    assert cfg.train_dataloader.batch_size == int(name['batch'])
    assert int(name['batch']) * int(name['gpus']) == 16
    crop = 769 if name['data'] == 'cityscapes' else 513
    assert int(name['crop']) == crop
    assert tuple(cfg.model.data_preprocessor.size) == (crop, crop)
    assert cfg.train_cfg.max_iters == 90000
    assert cfg.param_scheduler[0].power == 0.9
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.01, momentum=0.9, weight_decay=4e-5
    )
    if kind['type'] == 'TIMMBackbone':
        assert cfg.model.backbone.output_stride == stride
        assert cfg.sync_bn == 'torch'
        return
    # The head is told the stride that the backbone has.
    init_default_scope('mmseg')
    with torch.device('meta'), torch.no_grad():
        backbone = MODELS.build(cfg.model.backbone).to('meta')
        backbone = revert_sync_batchnorm(backbone)
        backbone.eval()  # Not every one returns itself.
        *_, feature = backbone(torch.empty(1, 3, 128, 64))
    assert feature.shape[2:] == (128 // stride, 64 // stride)


TEMPLATES = [
    file
    for file in OURS
    if file.parent.name == 'templates' and file.stem.startswith('template-')
]


@pytest.mark.parametrize('file', TEMPLATES, ids=lambda file: file.stem)
def test_name_of_a_network_of_templates_says_what_is_inside(file):
    cfg = read(file)
    name = re.fullmatch(
        r'template-(?P<arch>arch[01])_(?P<gpus>\d)xb(?P<batch>\d+)'
        r'-(?P<thousands>\d+)k_(?P<data>.+)-(?P<height>\d+)x(?P<width>\d+)',
        file.stem,
    ).groupdict()
    head = cfg.model.decode_head
    assert (head.arch, head.channels, head.sep_repeats) == (
        name['arch'],
        64,
        2,
    )
    assert head.stride_everywhere
    assert cfg.train_dataloader.batch_size == int(name['batch'])
    assert int(name['batch']) * int(name['gpus']) == 16
    iterations = 1000 * int(name['thousands'])
    assert cfg.train_cfg.max_iters == iterations
    assert iterations % cfg.train_cfg.val_interval == 0
    size = int(name['height']), int(name['width'])
    assert tuple(cfg.model.data_preprocessor.size) == size
    # The authors' sizes, less what weights of ImageNet do not have.
    init_default_scope('mmseg')
    with torch.device('meta'):
        model = MODELS.build(dict(cfg.model, pretrained=None))
    assert (
        sum(p.numel() for p in model.parameters()) + 1088
        == {
            ('arch0', 11): 275_531,
            ('arch0', 19): 280_147,
            ('arch1', 11): 263_619,
            ('arch1', 19): 268_235,
        }[name['arch'], head.num_classes]
    )
    # The backbone learns at a quarter of the rate.
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(p): name for name, p in model.named_parameters()}
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            of_backbone = names[id(parameter)].startswith('backbone.')
            assert group['lr'] == (0.0005 if of_backbone else 0.002)
            assert group['weight_decay'] == 1e-5


@pytest.mark.parametrize('name', ['search_cityscapes', 'search_voc12aug'])
def test_the_proxy_of_the_paper(name):
    cfg = read(CONFIGS[f'dpc/{name}'])
    assert cfg.train_cfg.max_iters == 30000
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.optim_wrapper.optimizer.lr == 0.01
    backbone = cfg.model.backbone
    assert backbone.type == 'FrozenBackbone'
    # Its weights are where their config leaves them.
    weights = backbone.backbone.init_cfg
    _, source, file = Path(weights.checkpoint).parts
    trained = read(CONFIGS[f'dpc/{source}'])
    assert file == f'iter_{trained.train_cfg.max_iters}.pth'
    for key in ('type', 'widen_factor', 'strides', 'dilations'):
        assert backbone.backbone[key] == trained.model.backbone[key]
    assert cfg.search.space == dict(type='DPCSpace', num_branches=5)
    assert cfg.search.stages[0].cache_features
    retrained = cfg.retrain.model.backbone
    assert retrained.type == 'MobileNetV2' and retrained.init_cfg == weights
