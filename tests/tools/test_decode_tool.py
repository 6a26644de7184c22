"""tools/decode.py against enumeration, and the config that it writes."""

import functools
import itertools
import os
import pickle
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import random_architecture
from mmengine.config import Config

from mmseg_autodeeplab.arch import (
    PRIMITIVES,
    RATES,
    Architecture,
)
from mmseg_autodeeplab.cli import check_evaluation, read_architecture
from mmseg_autodeeplab.datasets import uncheck_pipelines

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'configs' / 'autodeeplab' / 'search_demo.py'


@functools.cache
def demo_text():
    return Config.fromfile(DEMO).pretty_text


def checkpoint(file, alphas, betas, cfg=None):
    text = demo_text() if cfg is None else cfg.pretty_text
    torch.save(
        dict(
            meta=dict(cfg=text, iter=7, epoch=0),
            # As MMEngine has it: more than weights, so that loading it
            # under torch >= 2.6 is tried too.
            message_hub=dict(array=np.arange(3)),
            state_dict={
                'backbone.alphas': torch.tensor(alphas, dtype=torch.float),
                'backbone.betas': torch.tensor(betas, dtype=torch.float),
            },
        ),
        file,
    )
    return file


def softmax(values):
    e = np.exp(np.asarray(values, dtype=np.float64))
    return e / e.sum()


def best_path(betas):
    """All paths, each with the product of its transition probabilities."""
    best = (-1.0, None)
    for levels in itertools.product(range(4), repeat=len(betas)):
        p = 1.0
        for layer, (s, t) in enumerate(zip((0, *levels), levels)):
            steps = [d for d in range(3) if 0 <= s + d - 1 <= 3]
            if t - s + 1 not in steps:
                p = 0.0
                break
            p *= softmax(betas[layer, s, steps])[steps.index(t - s + 1)]
        best = max(best, (p, levels))
    return tuple(RATES[level] for level in best[1])


def best_cell(alphas):
    """All pairs of edges, all pairs of primitives."""
    cell, start = [], 0
    for block in range(100):
        if start == len(alphas):
            return tuple(cell)
        p = np.array([softmax(a) for a in alphas[start : start + block + 2]])
        choices = [
            (p[i, k] + p[j, m], (i, k), (j, m))
            for i, j in itertools.combinations(range(block + 2), 2)
            for k in range(1, 8)
            for m in range(1, 8)
        ]
        _, *pair = max(choices)
        pair.sort(key=lambda ik: -p[ik])
        cell.append(tuple((i, list(PRIMITIVES)[k]) for i, k in pair))
        start += block + 2


@pytest.mark.parametrize('num_layers', [3, 5, 8])
@pytest.mark.parametrize('num_blocks', [1, 3, 5])
def test_it_decodes_what_enumeration_finds(tmp_path, num_layers, num_blocks):
    rng = np.random.RandomState(10 * num_layers + num_blocks)
    edges = num_blocks * (num_blocks + 3) // 2
    for _ in range(3):
        # As float32, so that both sides decode the same numbers.
        alphas = rng.randn(edges, 8).astype(np.float32)
        betas = (2 * rng.randn(num_layers, 4, 3)).astype(np.float32)
        file = checkpoint(tmp_path / 'iter_7.pth', alphas, betas)
        found, cfg, _ = read_architecture(str(file), score='probability')
        assert found.path == best_path(betas)
        assert found.cell == best_cell(alphas)
        assert found.provenance['iteration'] == 7
        assert found.provenance['checkpoint'] == 'iter_7.pth'
    assert cfg.to_dict() == Config.fromfile(DEMO).to_dict()


def random_checkpoint(tmp_path, cfg=None, seed=0, num_layers=6):
    rng = np.random.RandomState(seed)
    return checkpoint(
        tmp_path / 'iter_7.pth',
        rng.randn(5, 8),
        3 * rng.randn(num_layers, 4, 3),
        cfg,
    )


@pytest.mark.parametrize(
    'option, searched_by, expected',
    [
        (None, None, 'probability'),
        (None, 'lift', 'lift'),
        ('lift', None, 'lift'),
        ('probability', 'lift', 'probability'),
    ],
)
def test_a_path_by_the_score_of_the_search_or_of_the_option(
    tmp_path, run_tool, capsys, option, searched_by, expected
):
    cfg = Config.fromfile(DEMO)
    del cfg.custom_hooks[0].score
    if searched_by:
        cfg.custom_hooks[0].score = searched_by
    betas = np.zeros((3, 4, 3))
    betas[2, 1, 2] = 0.5
    paths = dict(probability=(4, 4, 4), lift=(4, 8, 16))
    file = checkpoint(tmp_path / 'iter_7.pth', np.eye(5, 8), betas, cfg)
    run_tool('decode', file, *(['--score', option] if option else []))
    found = Architecture.load(tmp_path / 'decoded' / 'architecture.json')
    assert found.path == paths[expected]
    assert found.provenance['score'] == expected
    printed = capsys.readouterr().out
    assert printed.count('\nThe betas do not settle the path yet') == 1
    assert '4-4-4 (' in printed and '4-8-16 (' in printed
    run_tool('decode', file, '--random', 1, '--force')
    assert 'settle' not in capsys.readouterr().out


def test_paths_are_scored_where_there_are_betas_alone(tmp_path, run_tool):
    file = tmp_path / 'edited.json'
    random_architecture(2, 6, 3).dump(file)
    for where in (file, tmp_path):
        with pytest.raises(SystemExit, match=f'lift of {where}, but must be'):
            run_tool('decode', where, '--score', 'lift')


def test_the_retrain_config_is_complete(tmp_path, run_tool, capsys):
    out = tmp_path / 'decoded'
    file = random_checkpoint(tmp_path)
    run_tool('decode', file)  # decoded/ beside the checkpoint
    assert sorted(os.listdir(out)) == [
        'architecture.json',
        'cell.png',
        'cell.svg',
        'path.png',
        'path.svg',
        'retrain.py',
    ]
    printed = capsys.readouterr().out
    retrain = out / 'retrain.py'
    assert f'python tools/train.py {retrain}\n' in printed
    weights = out / 'retrain' / 'iter_600.pth'
    assert f'python tools/test.py {retrain} {weights}\n' in printed

    assert '_base_' not in retrain.read_text()
    cfg, search = Config.fromfile(retrain), Config.fromfile(DEMO)
    found = Architecture.load(out / 'architecture.json')
    assert found == Architecture.from_dict(cfg.model.backbone.arch)
    # The data of the search, all of it for the weights now.
    uncheck_pipelines(search.train_dataloader)  # As its base has them.
    assert cfg.train_dataloader.dataset == search.train_dataloader.dataset
    assert cfg.train_dataloader.sampler.type == 'InfiniteSampler'
    assert cfg.test_dataloader == search.test_dataloader
    assert cfg.test_evaluator == search.test_evaluator
    # What the search config has under `retrain`, and nothing of the search.
    assert cfg.train_cfg.max_iters == 600
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'
    assert cfg.custom_hooks == []
    assert 'retrain' not in cfg and 'ArchSearchHook' not in cfg.pretty_text
    assert cfg.work_dir == str(out / 'retrain')


def test_what_made_the_search_stays_with_it(tmp_path, run_tool):
    """Averages of a supernet, and a wrapper for processes without GPUs."""
    cfg = Config.fromfile(DEMO)
    cfg.custom_hooks += [
        dict(type='EMAHook', ema_type='SearchEMA'),
        dict(type='EmptyCacheHook'),
    ]
    cfg.model_wrapper_cfg = dict(device_ids=None)
    file = random_checkpoint(tmp_path, cfg=cfg)
    run_tool('decode', file, '--out-dir', tmp_path)
    cfg = Config.fromfile(tmp_path / 'retrain.py')
    assert cfg.custom_hooks == [dict(type='EmptyCacheHook')]
    assert 'model_wrapper_cfg' not in cfg


def test_dilations_follow_the_final_stride(tmp_path, run_tool):
    search = Config.fromfile(
        ROOT / 'configs' / 'autodeeplab' / 'search_cityscapes.py'
    )
    betas = np.zeros((3, 4, 3))
    betas[0, 0, 2] = betas[1, 1, 2] = betas[2, 2, 1] = 9  # 8-16-16
    file = checkpoint(tmp_path / 'iter_7.pth', np.eye(20, 8), betas, search)
    run_tool('decode', file, '--out-dir', tmp_path)
    cfg = Config.fromfile(tmp_path / 'retrain.py')
    head = cfg.model.decode_head
    assert head.dilations == [6, 12, 18]
    assert head.in_channels == [128, 400]  # the stem, and 5 F at stride 16
    assert head.num_classes == 19
    # Full resolution and the paper's crop, instead of those of the search.
    pipelines = cfg.train_dataloader.dataset.pipeline
    assert [t.crop_size for t in pipelines if t.type == 'RandomCrop'] == [
        (769, 769)
    ]
    assert cfg.model.data_preprocessor.size == (769, 769)
    # The third is what mmseg.apis infers by.
    pipelines = [
        cfg.val_dataloader.dataset.pipeline,
        cfg.test_dataloader.dataset.pipeline,
        cfg.test_pipeline,
    ]
    scales = [t.scale for p in pipelines for t in p if t.type == 'Resize']
    assert scales == [(2049, 1025)] * 3


def test_a_search_without_validation(tmp_path, run_tool, capsys):
    search = Config.fromfile(DEMO)
    for part in ('val', 'test'):
        for kind in ('dataloader', 'evaluator', 'cfg'):
            search[f'{part}_{kind}'] = None
    run_tool('decode', random_checkpoint(tmp_path, search))
    cfg = Config.fromfile(tmp_path / 'decoded' / 'retrain.py')
    assert cfg.val_dataloader is None and cfg.val_cfg is None
    printed = capsys.readouterr().out
    assert 'tools/train.py' in printed and 'tools/test.py' not in printed
    assert 'no test_dataloader' in printed


def test_a_search_with_validation_but_no_test(tmp_path, run_tool):
    search = Config.fromfile(DEMO)
    for kind in ('dataloader', 'evaluator', 'cfg'):
        search[f'test_{kind}'] = None
    run_tool('decode', random_checkpoint(tmp_path, search))
    cfg = Config.fromfile(tmp_path / 'decoded' / 'retrain.py')
    assert cfg.test_cfg is None and cfg.val_cfg is not None
    check_evaluation(cfg)  # neither part is half there


def test_a_random_baseline_differs_in_the_architecture_alone(
    tmp_path, run_tool
):
    file = random_checkpoint(tmp_path)
    run_tool('decode', file, '--out-dir', tmp_path / 'found')
    run_tool('decode', file, '--random', 3, '--out-dir', tmp_path / 'random')
    drawn = Architecture.load(tmp_path / 'random' / 'architecture.json')
    assert drawn == random_architecture(2, 6, 3)
    found, baseline = (
        Config.fromfile(tmp_path / name / 'retrain.py')
        for name in ('found', 'random')
    )
    assert Architecture.from_dict(baseline.model.backbone.arch) == drawn
    for cfg in (found, baseline):
        cfg.work_dir = cfg.model.backbone.arch = None
        # They follow from the path.
        del cfg.model.decode_head['in_channels']
        cfg.model.decode_head.pop('dilations')
    assert found.to_dict() == baseline.to_dict()


def test_an_architecture_from_elsewhere(tmp_path, run_tool, capsys):
    """Edited, say; with the config of a search it is as if decoded."""
    file = tmp_path / 'edited.json'
    architecture = random_architecture(2, 6, 3)
    architecture.dump(file)
    run_tool('decode', file)
    names = ['architecture.json', 'cell.png', 'cell.svg', 'path.png']
    found = tmp_path / 'decoded'
    assert sorted(os.listdir(found)) == [*names, 'path.svg']
    assert 'tools/train.py' not in capsys.readouterr().out
    assert Architecture.load(found / 'architecture.json') == architecture

    run_tool('decode', file, '--config', DEMO, '--out-dir', tmp_path / 'full')
    assert f'train.py {tmp_path}/full/retrain.py' in capsys.readouterr().out
    cfg = Config.fromfile(tmp_path / 'full' / 'retrain.py')
    assert Architecture.from_dict(cfg.model.backbone.arch) == architecture
    # But for where it lies, what decode.py writes for a search.
    run_tool('decode', random_checkpoint(tmp_path), '--out-dir', found / 'b')
    other = Config.fromfile(found / 'b' / 'retrain.py')
    for config in (cfg, other):
        config.work_dir = None
        config.model.backbone.arch = None
        for key in ('in_channels', 'dilations'):
            config.model.decode_head.pop(key)
    assert cfg.to_dict() == other.to_dict()


def test_commands_run_where_a_path_has_a_space(tmp_path, run_tool, capsys):
    out = tmp_path / 'my "own" $work'
    run_tool('decode', random_checkpoint(tmp_path), '--out-dir', out)
    lines = capsys.readouterr().out.splitlines()[-2:]
    config, weights = out / 'retrain.py', out / 'retrain' / 'iter_600.pth'
    assert [shlex.split(line) for line in lines] == [
        ['python', 'tools/train.py', str(config)],
        ['python', 'tools/test.py', str(config), str(weights)],
    ]


@pytest.mark.parametrize(
    'by_epoch, weights', [(True, 'retrain/epoch_3.pth'), (False, 'CHECKPOINT')]
)
def test_a_loop_that_counts_epochs(
    tmp_path, run_tool, capsys, by_epoch, weights
):
    search = Config.fromfile(DEMO)
    search.retrain.train_cfg = dict(
        _delete_=True, type='EpochBasedTrainLoop', max_epochs=3
    )
    search.retrain.train_dataloader.sampler = dict(type='DefaultSampler')
    search.retrain.default_hooks.checkpoint.by_epoch = by_epoch
    run_tool('decode', random_checkpoint(tmp_path, search))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith('python tools/test.py') and last.endswith(weights)


def test_what_is_left_out_is_one_line(tmp_path, run_tool, capsys):
    search = Config.fromfile(DEMO)
    search.model.auxiliary_head = dict(type='FCNHead', in_channels=8)
    search.optim_wrapper.accumulative_counts = 2
    run_tool('decode', random_checkpoint(tmp_path, search))
    assert (
        'Left out of retrain.py, as part of the search: model.auxiliary_head, '
        'optim_wrapper.accumulative_counts\n'
    ) in capsys.readouterr().out
    run_tool('decode', random_checkpoint(tmp_path), '--force')
    assert 'Left out' not in capsys.readouterr().out


def test_a_stock_head_may_be_chosen(tmp_path, run_tool):
    search = Config.fromfile(DEMO)
    search.retrain.model.decode_head = dict(
        _delete_=True,
        type='FCNHead',
        in_channels=8,
        channels=8,
        num_classes=6,
    )
    run_tool('decode', random_checkpoint(tmp_path, search))
    cfg = Config.fromfile(tmp_path / 'decoded' / 'retrain.py')
    assert cfg.model.decode_head.in_channels == 8
    assert 'dilations' not in cfg.model.decode_head


def existing(tmp_path):
    (tmp_path / 'decoded').mkdir()
    (tmp_path / 'decoded' / 'retrain.py').write_text('precious')
    return random_checkpoint(tmp_path)


def truncated(tmp_path):
    file = random_checkpoint(tmp_path)
    file.write_bytes(file.read_bytes()[:-200])
    return file


def text_file(tmp_path):
    file = tmp_path / 'iter_7.pth'
    file.write_text('hello')
    return file


def not_a_search(tmp_path):
    file = tmp_path / 'iter_7.pth'
    torch.save(dict(state_dict={}, meta=dict(cfg='')), file)
    return file


def bare_weights(tmp_path):
    file = tmp_path / 'iter_7.pth'
    torch.save([torch.zeros(3)], file)
    return file


def diverged(tmp_path):
    return checkpoint(
        tmp_path / 'iter_7.pth', np.full((5, 8), np.nan), np.zeros((6, 4, 3))
    )


def another_loop(tmp_path):
    search = Config.fromfile(DEMO)
    search.retrain.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
    return random_checkpoint(tmp_path, search)


def endless(tmp_path):
    search = Config.fromfile(DEMO)
    search.retrain.train_cfg = dict(
        _replace_=True, type='mmengine.EpochBasedTrainLoop', max_epochs=3
    )
    return random_checkpoint(tmp_path, search)


def another_optimizer(tmp_path):
    """Merged over that of the schedule, it keeps the momentum."""
    search = Config.fromfile(DEMO)
    search.retrain.optim_wrapper = dict(optimizer=dict(type='Adam'))
    return random_checkpoint(tmp_path, search)


class Canary:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / 'executed'),)


def pickled_weights(tmp_path):
    """MMSegmentation would load them when the loss is built."""
    search, file = Config.fromfile(DEMO), tmp_path / 'weights.pkl'
    file.write_bytes(pickle.dumps(Canary(tmp_path)))
    search.model.decode_head.loss_decode.class_weight = str(file)
    return random_checkpoint(tmp_path, search)


def no_architecture(tmp_path):
    file = tmp_path / 'architecture.json'
    file.write_text('{}')
    return file


@pytest.mark.parametrize(
    'make,sentence',
    [
        (lambda tmp_path: tmp_path / 'none.pth', 'does not exist'),
        (existing, 'retrain.py exists already'),
        (truncated, 'cannot be read as a checkpoint'),
        (text_file, 'cannot be read as a checkpoint'),
        (not_a_search, 'is not the checkpoint of a search'),
        (bare_weights, 'holds a list where a dict should be'),
        (diverged, 'not finite'),
        (another_loop, 'train_cfg cannot be built'),
        (endless, 'InfiniteSampler, which never ends'),
        (another_optimizer, 'optim_wrapper cannot be built'),
        (pickled_weights, 'which is not known here'),
        (no_architecture, 'schema is missing'),
        (lambda tmp_path: tmp_path / 'none.json', 'No such file'),
    ],
)
def test_one_sentence_and_nothing_written(tmp_path, failure, make, sentence):
    file = make(tmp_path)
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob('*')}
    message = failure('decode', file)
    assert message.startswith('Error: ') and sentence in message
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob('*')} == before


def test_a_config_of_no_search(tmp_path, failure):
    file = tmp_path / 'architecture.json'
    random_architecture(2, 6, 3).dump(file)
    other = tmp_path / 'other.py'
    other.write_text('train_dataloader = dict()')
    error = failure('decode', file, '--config', other)
    assert 'is not the config of a search, since it has no model.ba' in error
    error = failure('decode', file, '--config', tmp_path / 'none.py')
    assert error.endswith('none.py does not exist')
    assert not (tmp_path / 'decoded').exists()


def test_force_replaces(tmp_path, run_tool):
    file = existing(tmp_path)
    run_tool('decode', file, '--force')
    assert 'precious' not in (tmp_path / 'decoded' / 'retrain.py').read_text()


LAYER = dict(
    _replace_=True,
    type='ConvModule',
    in_channels=3,
    out_channels=4,
    kernel_size=1,
    padding_mode='subprocess.Popen',
)
KEY = "a': 1, 'b': open('canary', 'w'), 'c"


@pytest.mark.parametrize(
    'options, sentence',
    [
        ({'retrain.custom_imports': dict(imports=['canary'])}, 'known here'),
        ({'custom_imports.imports': ['canary']}, 'known here'),
        ({'retrain.default_scope': 'canary'}, 'known here'),
        ({'model.decode_head._scope_': 'canary'}, 'known here'),
        ({'train_dataloader.dataset.type': 'canary.Set'}, 'known here'),
        ({'retrain.model.backbone': LAYER}, 'known here'),
        ({'retrain.optim_wrapper.constructor': 'canary.C'}, 'known here'),
        ({'retrain.model.backbone.type': 'EMAHook'}, 'cannot be built'),
        ({'retrain._base_': 'canary.py'}, 'cannot be written as text'),
        ({'retrain.work_dir': '{{fileDirname}}'}, ''),  # It is replaced.
        ({'retrain.a': '{{fileDirname}}'}, 'cannot be written as text'),
        ({'retrain.a': {KEY: 1}}, 'cannot be written as text'),
        ({'default_hooks': [3]}, 'of another kind than a search has'),
        ({'custom_hooks': 3.5}, 'of another kind than a search has'),
        ({'retrain': 3}, 'cannot be merged'),
    ],
    ids=lambda value: str(value)[:50],
)
def test_nothing_that_comes_with_a_checkpoint_runs(
    tmp_path, monkeypatch, run_tool, failure, options, sentence
):
    """Neither here nor when the written config is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'canary.py').write_text("open('executed', 'w')")
    search = Config.fromfile(DEMO)
    for name, value in options.items():
        *way, last = name.split('.')
        parent = search
        for key in way:
            parent = parent.setdefault(key, {})
        parent[last] = value
    file = random_checkpoint(tmp_path)
    content = torch.load(file, weights_only=False)
    # Unlike `pretty_text`, it keeps any key and value in its place.
    content['meta']['cfg'] = '\n'.join(
        f'{key} = {value!r}' for key, value in search.to_dict().items()
    )
    torch.save(content, file)
    before = sorted(tmp_path.rglob('*'))
    if sentence:
        assert sentence in failure('decode', file)
        assert sorted(tmp_path.rglob('*')) == before
    else:
        run_tool('decode', file)
        assert Config.fromfile(tmp_path / 'decoded' / 'retrain.py')
    assert not any(path.name == 'executed' for path in tmp_path.rglob('*'))


def test_a_config_that_is_given_is_run(tmp_path, monkeypatch, run_tool):
    """It is the user's own, and what it imports is carried over."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'my_package.py').write_text('')
    config = tmp_path / 'search.py'
    config.write_text(
        f'_base_ = {str(DEMO)!r}\ncustom_imports = dict(\n'
        "imports=['mmseg_autodeeplab', 'my_package'])\n"
    )
    file = random_checkpoint(tmp_path, Config.fromfile(config))
    run_tool('decode', file, '--config', config)
    cfg = Config.fromfile(tmp_path / 'decoded' / 'retrain.py')
    assert cfg.custom_imports.imports == ['mmseg_autodeeplab', 'my_package']
