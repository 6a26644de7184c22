"""The config of a search becomes that of a retraining, by meaning."""

import copy
import re
from pathlib import Path

import pytest
import torch
from architectures import random_architecture
from miniature import read
from mmengine.config import Config
from mmengine.hooks import EMAHook, EmptyCacheHook
from mmengine.registry import Registry, init_default_scope
from mmseg import registry as registries
from mmseg.registry import HOOKS, MODELS, TRANSFORMS

from mmseg_autodeeplab.arch import Architecture
from mmseg_autodeeplab.cli import check_loading
from mmseg_autodeeplab.datasets import (
    SplitInfiniteSampler,
    uncheck_pipelines,
)
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search import retrain_config
from mmseg_autodeeplab.search.gradient import ArchSearchHook

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'configs' / 'autodeeplab' / 'search_demo.py'
DOCS = (ROOT / 'docs/user_guides/decode_and_retrain.md').read_text()
ARCHITECTURE = random_architecture(2, 4, 0)
OHEM = dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100)


@pytest.fixture
def search():
    init_default_scope('mmseg')
    return read(DEMO)


def retrain(search):
    cfg, _ = retrain_config(search, ARCHITECTURE)
    return cfg


def left_out(search):
    return retrain_config(search, ARCHITECTURE)[1]


def test_four_channels_ohem_and_a_threshold(search, tmp_path):
    search.model.backbone.in_channels = 4
    search.model.data_preprocessor.update(
        mean=[127.5] * 4, std=[127.5] * 4, bgr_to_rgb=False
    )
    search.model.decode_head.update(
        sampler=OHEM, threshold=0.7, out_channels=1, num_classes=2
    )
    search.model.decode_head.ignore_index = 254
    search.model.decode_head.loss_decode = dict(
        type='CrossEntropyLoss', use_sigmoid=True
    )
    search.model.test_cfg = dict(
        mode='slide', crop_size=(64, 64), stride=(32, 32)
    )
    # As it is written and read again.
    file = tmp_path / 'retrain.py'
    file.write_text(retrain(search).pretty_text)
    cfg = Config.fromfile(file)
    head = cfg.model.decode_head
    for key in (
        'sampler',
        'threshold',
        'out_channels',
        'num_classes',
        'ignore_index',
        'loss_decode',
    ):
        assert head[key] == search.model.decode_head[key]
    assert cfg.model.test_cfg == search.model.test_cfg
    model = MODELS.build(cfg.model)
    assert model(torch.randn(2, 4, 96, 96)).shape == (2, 1, 24, 24)
    data = dict(inputs=[torch.zeros(4, 96, 96, dtype=torch.uint8)] * 2)
    found = model.data_preprocessor(data, False)['inputs']
    assert found.shape[1] == 4


def test_the_docs_tell_what_is_carried_over(search):
    of_head = re.search(r'of the head: (.*?) \|', DOCS)[1]
    names = re.findall(r'`(\w+)`', of_head)
    values = dict(num_classes=2, out_channels=1, threshold=0.7, sampler=OHEM)
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
    values.update(ignore_index=254, loss_decode=loss)
    assert sorted(names) == sorted(values)
    for key, value in dict(values, align_corners=False).items():
        search.model.decode_head[key] = value
    head = retrain(search).model.decode_head
    assert {name: head[name] for name in names} == values
    assert head.align_corners


def test_the_docs_tell_what_retrain_can_say(search, tmp_path):
    blocks = re.findall(r'```python\n(retrain = .*?)```', DOCS, re.S)
    assert len(blocks) == 2
    found = []
    for block in blocks:
        (tmp_path / 'block.py').write_text(block)
        search.retrain = Config.fromfile(tmp_path / 'block.py').retrain
        found.append(retrain(search))
    assert found[0].train_cfg.max_iters == 80000
    assert found[0].optim_wrapper.optimizer.momentum == 0.9
    assert found[1].train_cfg == dict(
        type='EpochBasedTrainLoop', max_epochs=100
    )
    assert found[1].optim_wrapper.optimizer == dict(type='AdamW', lr=0.001)


@pytest.mark.parametrize('seed', range(6))
def test_the_channels_are_right_for_any_path(search, seed):
    del search.retrain.model.decode_head['dilations']
    architecture = random_architecture(2, 3 + seed, seed)
    cfg, _ = retrain_config(search, architecture)
    assert Architecture.from_dict(cfg.model.backbone.arch) == architecture
    first = {4: 24, 8: 12, 16: 6, 32: 3}[architecture.path[-1]]
    head = cfg.model.decode_head
    assert head.dilations == [first, 2 * first, 3 * first]
    assert len(head.in_channels) == 2
    model = MODELS.build(cfg.model)
    assert model(torch.randn(2, 3, 96, 96)).shape == (2, 6, 24, 24)


def test_the_search_config_stays_as_it_is(search):
    before = copy.deepcopy(search.to_dict())
    first = retrain(search)
    assert search.to_dict() == before
    assert first.to_dict() == retrain(search).to_dict()


def test_variables_do_not_leak(search):
    search.img_scale = (96, 96)
    search.my_setting = dict(a=1)
    usual = set(retrain(Config.fromfile(DEMO)))
    assert set(retrain(search)) == usual
    assert usual == {
        'custom_hooks',
        'custom_imports',
        'default_hooks',
        'default_scope',
        'env_cfg',
        'log_level',
        'log_processor',
        'model',
        'optim_wrapper',
        'param_scheduler',
        'randomness',
        'test_cfg',
        'test_dataloader',
        'test_evaluator',
        'test_pipeline',
        'train_cfg',
        'train_dataloader',
        'tta_model',
        'tta_pipeline',
        'val_cfg',
        'val_dataloader',
        'val_evaluator',
        'vis_backends',
        'visualizer',
    }


def test_task_and_runtime_are_carried_over(search):
    search.val_cfg.fp16 = True
    search.randomness = dict(seed=7)
    search.log_processor.window_size = 3
    cfg = retrain(search)
    for key in (
        'custom_imports',
        'log_processor',
        'randomness',
        'test_dataloader',
        'test_evaluator',
        'tta_model',
        'tta_pipeline',
        'val_cfg',
        'val_dataloader',
        'val_evaluator',
        'visualizer',
    ):
        assert cfg[key] == search[key]


PLACE = 'mmseg_autodeeplab.search.gradient.arch_search_hook.ArchSearchHook'


@pytest.mark.parametrize(
    'name', ['ArchSearchHook', 'mmseg.ArchSearchHook', PLACE, ArchSearchHook]
)
@pytest.mark.parametrize('ema', ['mmengine.EMAHook', EMAHook])
def test_hooks_of_a_search_are_known_by_their_class(search, name, ema):
    search.custom_hooks[0].type = name
    search.custom_hooks += [
        dict(type=ema, ema_type='SearchEMA'),
        dict(type='SearchVisualizationHook', interval=3),
        dict(type='DiscretizationGapHook', interval=3),
        dict(type=EmptyCacheHook, priority='LOW'),
    ]
    search.default_hooks.pictures = dict(type='SearchVisualizationHook')
    search.default_hooks.search = dict(type=name, begin=3)
    search.default_hooks.averages = dict(type=ema)
    assert left_out(search) == [
        'default_hooks.averages',
        'custom_hooks.2 (EMAHook)',
    ]
    cfg = retrain(search)
    assert {'search', 'pictures', 'averages'}.isdisjoint(cfg.default_hooks)
    (hook,) = cfg.custom_hooks
    assert HOOKS.get(hook.type) is EmptyCacheHook
    assert hook.priority == 'LOW'
    assert 'search' not in str(cfg.default_hooks).lower()
    assert cfg.pretty_text  # a class has no text


def test_a_subclass_of_a_search_hook_is_one(search):
    @HOOKS.register_module()
    class OtherSearchHook(ArchSearchHook):
        pass

    try:
        search.custom_hooks[0].type = 'OtherSearchHook'
        assert retrain(search).custom_hooks == []
    finally:
        HOOKS.module_dict.pop('OtherSearchHook')


def test_a_hook_of_ones_own_among_the_default_ones(search):
    search.default_hooks.cache = dict(type='EmptyCacheHook')
    assert retrain(search).default_hooks.cache == dict(type='EmptyCacheHook')


@pytest.mark.parametrize(
    'name', ['mmseg.SplitInfiniteSampler', SplitInfiniteSampler]
)
def test_all_images_are_for_the_weights(search, name):
    search.train_dataloader.sampler = dict(type=name, ratio=0.6)
    found = retrain(search).train_dataloader.sampler
    assert found == dict(type='InfiniteSampler', shuffle=True)


def test_loaders_have_the_stock_names_again(search):
    check_loading(search, 'train', 'val', 'test')
    assert 'LoadChecked' in str(search)
    cfg, stock = retrain(search), Config.fromfile(DEMO)
    assert 'LoadChecked' not in str(cfg)
    for part in ('train', 'val', 'test'):
        key = f'{part}_dataloader'
        uncheck_pipelines(stock[key])  # Bases have some of them.
        assert cfg[key].dataset == stock[key].dataset
    # What mmseg.apis and MMSegInferencer look for.
    names = [transform.type for transform in cfg.test_pipeline]
    assert names == ['LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs']
    assert cfg.test_dataloader.dataset.pipeline == cfg.test_pipeline


def test_what_is_left_out_is_named(search):
    assert left_out(search) == []
    search.model.auxiliary_head = dict(type='FCNHead', in_channels=8)
    search.model.decode_head.dropout_ratio = 0.3
    search.model.decode_head.norm_cfg = dict(type='GN', num_groups=2)
    search.model.backbone.update(with_cp=True, form='reference')
    search.optim_wrapper.update(type='AmpOptimWrapper', accumulative_counts=2)
    search.default_hooks.logger.log_metric_by_epoch = True
    search.custom_hooks.append(dict(type='EMAHook', ema_type='SearchEMA'))
    search.load_from = 'coco.pth'
    search.img_scale = (96, 96)  # a variable sets nothing
    assert left_out(search) == [
        'model.backbone.with_cp',
        'model.decode_head.dropout_ratio',
        'model.decode_head.norm_cfg.type',
        'model.decode_head.norm_cfg.num_groups',
        'model.auxiliary_head',
        'optim_wrapper.type',
        'optim_wrapper.accumulative_counts',
        'default_hooks.logger.log_metric_by_epoch',
        'load_from',
        'custom_hooks.2 (EMAHook)',
    ]
    # A resumed search loads its own checkpoint.
    search.resume = True
    assert 'load_from' not in left_out(search)


def kind_of(name):
    """The registry's own spelling of a name, and its class."""
    for registry in vars(registries).values():
        while isinstance(registry, Registry):
            if name in registry.module_dict:
                found = registry.module_dict[name]
                return f'{registry.scope}.{name}', found
            registry = registry.parent
    raise KeyError(name)


def place_of(name):
    cls = kind_of(name)[1]
    return f'{cls.__module__}.{cls.__qualname__}'


SPELLINGS = dict(
    prefix=lambda name: kind_of(name)[0],
    place=place_of,
    cls=lambda name: kind_of(name)[1],
)


def respelled(value, spell):
    if isinstance(value, dict):
        return {
            k: spell(v) if k == 'type' else respelled(v, spell)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(respelled(v, spell) for v in value)
    return value


@pytest.mark.parametrize('spelling', SPELLINGS)
def test_all_spellings_of_types_give_the_same(search, spelling):
    """Old-style names, with a scope, and as new-style configs have them."""
    search.model.decode_head.update(sampler=OHEM, threshold=0.7)
    search.custom_hooks += [
        dict(type='EmptyCacheHook'),
        dict(type='EMAHook', ema_type='SearchEMA'),
    ]
    search.model.auxiliary_head = dict(type='FCNHead', in_channels=8)
    search.retrain.optim_wrapper = dict(_replace_=True, **ADAM)
    expected, names = retrain_config(search, ARCHITECTURE)
    other = Config(respelled(search.to_dict(), SPELLINGS[spelling]))
    assert str(other.model.type) != 'EncoderDecoder'
    found, found_names = retrain_config(other, ARCHITECTURE)
    assert found.to_dict() == expected.to_dict()
    assert found_names == names


class OwnHook(EmptyCacheHook):
    """Of a user's own."""


@pytest.mark.parametrize('registered', [False, True])
def test_a_class_of_ones_own_keeps_its_module(search, registered):
    search.custom_hooks.append(dict(type=OwnHook))
    if registered:
        HOOKS.register_module(module=OwnHook)
    try:
        (hook,) = retrain(search).custom_hooks
    finally:
        HOOKS.module_dict.pop('OwnHook', None)
    assert hook.type == f'{__name__}.OwnHook'


def test_a_config_that_names_neither_scope_nor_imports(search):
    """As new-style configs are."""
    search.pop('custom_imports')
    search.pop('default_scope')
    cfg = retrain(search)
    assert cfg.custom_imports.imports == ['mmseg_autodeeplab']
    assert cfg.default_scope == 'mmseg'


@pytest.mark.parametrize('name', ['search_camvid', 'search_cityscapes'])
def test_nothing_of_our_searches_is_left_out(name):
    init_default_scope('mmseg')
    assert left_out(Config.fromfile(DEMO.with_name(f'{name}.py'))) == []


def test_delete_replaces(search):
    search.retrain.optim_wrapper = dict(_delete_=True, type='OptimWrapper')
    search.retrain.optim_wrapper.optimizer = dict(type='Adam', lr=0.1)
    # Where nothing is to be replaced, the word is of no matter.
    search.retrain.custom_hooks = [dict(type='EmptyCacheHook', _delete_=True)]
    search.retrain.auto_scale_lr = dict(_delete_=True, base_batch_size=8)
    cfg = retrain(search)
    assert cfg.optim_wrapper.to_dict() == dict(
        type='OptimWrapper', optimizer=dict(type='Adam', lr=0.1)
    )
    assert cfg.auto_scale_lr == dict(base_batch_size=8)
    assert '_delete_' not in cfg.pretty_text


@pytest.fixture
def inherited(tmp_path):
    """A config that says some of `retrain` anew, as a checkpoint has it."""

    def inherit(base, heir=''):
        (tmp_path / 'base.py').write_text(f"""
_base_ = [{str(DEMO)!r}]
retrain = {base}
""")
        file = tmp_path / 'heir.py'
        file.write_text(f"_base_ = ['./base.py']\n{heir}")
        init_default_scope('mmseg')
        return Config.fromstring(Config.fromfile(file).pretty_text, '.py')

    return inherit


ADAM = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.1))


@pytest.mark.parametrize(
    'heir, lr',
    [
        ('', 0.1),
        ('retrain = dict(train_dataloader=dict(batch_size=2))', 0.1),
        (
            'retrain = dict(optim_wrapper=dict(optimizer=dict(lr=0.2)))',
            0.2,
        ),
        (
            'retrain = dict(optim_wrapper=dict(_delete_=True, _replace_=True,'
            " type='OptimWrapper', optimizer=dict(type='Adam', lr=0.3)))",
            0.3,
        ),
    ],
)
def test_replace_is_inherited(inherited, heir, lr):
    # The other word is for what the demo says, and is gone before this one.
    base = dict(optim_wrapper=dict(ADAM, _delete_=True, _replace_=True))
    search = inherited(base, heir)
    assert '_delete_' not in str(search.retrain.optim_wrapper)
    cfg = retrain(search)
    optimizer = dict(type='Adam', lr=lr)
    assert cfg.optim_wrapper == dict(type='OptimWrapper', optimizer=optimizer)
    assert '_replace_' not in cfg.pretty_text
    # What is not to be replaced is merged, as ever.
    search.retrain.optim_wrapper._replace_ = False
    assert 'paramwise_cfg' in retrain_config_text(search)


def retrain_config_text(search):
    search.retrain.optim_wrapper.optimizer.update(momentum=0, type='SGD')
    return retrain(search).pretty_text


def test_replace_in_all_depths(search):
    search.retrain.model = dict(
        decode_head=dict(
            _replace_=True,
            type='FCNHead',
            in_channels=8,
            channels=4,
            num_classes=6,
        )
    )
    search.retrain.custom_hooks = [dict(type='EmptyCacheHook', _replace_=True)]
    cfg = retrain(search)
    assert set(cfg.model.decode_head) == {
        'type',
        'in_channels',
        'channels',
        'num_classes',
    }
    assert '_replace_' not in cfg.pretty_text
    # A whole config, too.
    search.retrain = dict(cfg.to_dict(), _replace_=True)
    assert retrain(search).to_dict() == cfg.to_dict()


@pytest.mark.parametrize('word', ['_delete_', '_replace_'])
def test_another_loop(search, word):
    search.retrain.train_cfg = {
        word: True,
        'type': 'EpochBasedTrainLoop',
        'max_epochs': 3,
    }
    search.retrain.train_dataloader.sampler = dict(type='DefaultSampler')
    assert retrain(search).train_cfg == dict(
        type='EpochBasedTrainLoop', max_epochs=3
    )


@pytest.mark.parametrize(
    'changes, reason',
    [
        # Merged, it keeps max_iters.
        (
            dict(train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3)),
            'train_cfg cannot be built',
        ),
        (dict(train_cfg=dict(type='NoLoop')), 'NoLoop is not registered'),
        (
            dict(model=dict(decode_head=dict(type='FCNHead'))),
            'model cannot be built',
        ),
        (
            dict(model=dict(backbone=dict(widths=3))),
            'model cannot be built',
        ),
        (dict(model=3), 'cannot be'),
        (3, 'cannot be merged'),
        # Merged, it keeps the momentum of SGD.
        (
            dict(optim_wrapper=dict(optimizer=dict(type='Adam'))),
            'optim_wrapper cannot be built',
        ),
        (
            dict(optim_wrapper=dict(type='AmpOptimWrapper', no_such=1)),
            'optim_wrapper cannot be built',
        ),
        (
            dict(param_scheduler=[dict(type='PolyLR', gamma=1)]),
            'param_scheduler cannot be built',
        ),
        (dict(custom_hooks=[dict(type='EMAHok')]), 'a hook cannot be'),
        (
            dict(default_hooks=dict(logger=dict(intervall=3))),
            'a hook cannot be',
        ),
        (dict(custom_hooks=3), 'a hook cannot be'),
        (dict(default_hooks=None), 'a hook cannot be'),
        (dict(default_hooks=dict(logger=dict(_replace_=True))), 'a hook'),
        (dict(param_scheduler=3), 'param_scheduler cannot be'),
        (dict(train_dataloader=None), 'train_dataloader cannot be'),
        (dict(train_dataloader=3), 'train_dataloader cannot be'),
        (dict(val_dataloader=3), 'cannot be'),
        (
            dict(
                test_dataloader=dict(
                    dataset=dict(_replace_=True, type='RepeatDataset', times=2)
                )
            ),
            'test_dataloader cannot be',
        ),
        (dict(train_cfg=None), 'train_cfg cannot be built'),
        (dict(val_cfg=dict(fp17=True)), 'val_cfg cannot be built'),
        (
            dict(train_cfg=dict(_replace_=True, max_iters=3)),
            'train_cfg cannot be built',
        ),
        (
            dict(train_cfg=dict(_replace_=True, by_epoch=True, max_epochs=3)),
            'InfiniteSampler, which never ends',
        ),
        (
            dict(val_dataloader=dict(sampler=dict(type='InfiniteSampler'))),
            'DefaultSampler',
        ),
        (dict(_replace_=True, model=dict()), 'cannot be'),
        (dict(model=dict(backbone=dict(norm_cfg=dict(type='No')))), 'model'),
    ],
)
def test_mistakes_in_retrain_are_one_sentence(search, changes, reason):
    search.retrain.pop('model', None)
    search.retrain.pop('optim_wrapper', None)
    if isinstance(changes, dict):
        for key, value in changes.items():
            search.retrain[key] = value
    else:
        search.retrain = changes
    with pytest.raises(UserError) as error:
        retrain(search)
    text = str(error.value)
    assert reason in text and 'mend its `retrain`' in text
    assert '\n' not in text and len(text) < 500


def test_validation_may_come_with_the_retraining(search):
    for part in ('val', 'test'):
        for kind in ('dataloader', 'evaluator', 'cfg'):
            search[f'{part}_{kind}'] = None
    demo = Config.fromfile(DEMO)
    search.retrain.val_dataloader = demo.val_dataloader
    search.retrain.val_evaluator = demo.val_evaluator
    cfg = retrain(search)
    assert cfg.val_dataloader == demo.val_dataloader
    assert cfg.val_cfg == dict(type='ValLoop') and cfg.test_cfg is None


def test_a_data_preprocessor_outside_of_the_model(search):
    search.data_preprocessor = search.model.pop('data_preprocessor')
    search.data_preprocessor.pad_val = 9
    assert retrain(search).model.data_preprocessor.pad_val == 9
    # But the test_cfg outside is another one: that of the loop.
    del search.model['test_cfg']
    assert retrain(search).model.test_cfg == dict(mode='whole')


def test_wrapped_data_sets(search):
    dataset = search.test_dataloader.dataset
    search.test_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[dataset]
    )
    cfg = retrain(search)
    assert cfg.test_pipeline == dataset.pipeline
    for transform in cfg.test_pipeline:
        TRANSFORMS.build(transform)


def test_a_kind_without_a_network(search):
    with pytest.raises(UserError, match='no network for a dict'):
        retrain_config(search, {})
