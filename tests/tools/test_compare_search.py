"""tools/analysis_tools/compare_search.py, from end to end, and its doors."""

import argparse
import json
import os
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from small_search import search_config

from mmseg_autodeeplab.arch import Architecture, AutoDeepLabSpace
from mmseg_autodeeplab.cli.comparison import Comparison
from mmseg_autodeeplab.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TOOL = 'analysis_tools/compare_search'


@pytest.fixture
def config(tmp_path):
    """A search of two iterations, whose networks are retrained for two."""
    cfg = search_config(tmp_path, max_iters=2)
    for key in ('work_dir', 'experiment_name'):
        cfg.pop(key)
    loader = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=cfg.train_dataloader.dataset,
    )
    for part, loop in dict(val='ValLoop', test='TestLoop').items():
        cfg[f'{part}_dataloader'] = loader
        cfg[f'{part}_evaluator'] = dict(type='IoUMetric')
        cfg[f'{part}_cfg'] = dict(type=loop)
    cfg.train_cfg.val_interval = 2
    cfg.visualizer = dict(
        type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')]
    )
    norm = dict(_delete_=True, type='BN')
    cfg.retrain = dict(
        model=dict(
            backbone=dict(filter_multiplier=2, stem_channels=4, norm_cfg=norm),
            decode_head=dict(channels=4, low_level_channels=4, norm_cfg=norm),
        ),
        train_cfg=dict(max_iters=2, val_interval=2),
        default_hooks=dict(logger=dict(interval=1)),
    )
    file = tmp_path / 'small.py'
    file.write_text(cfg.pretty_text)
    return file


def results(folder):
    """Content and time of writing of all results."""
    return {
        str(file): (file.read_text(), file.stat().st_mtime_ns)
        for file in folder.rglob('result.json')
    }


@pytest.mark.run
def test_it_compares_and_goes_on(config, tmp_path, run_tool, capsys):
    work = tmp_path / 'compared'
    given = [TOOL, config, '--searches', 1, '--jobs', 2, '--work-dir', work]
    run_tool(*given, '--random', 1, '--one-hot', 1)
    first = results(work)
    assert len(first) == 3
    # One more, after another had been stopped before its test.
    run_tool(*given, '--random', 2, '--one-hot', 1)
    second = results(work)
    assert len(second) == 4
    assert {file: second[file] for file in first} == first

    found = json.loads((work / 'comparison.json').read_text())
    networks, statistics = found['networks'], found['statistics']
    assert [*networks] == ['searched_0', 'random_0', 'random_1']
    searched = Architecture.load(work / 'search_0' / 'architecture.json')
    assert networks['searched_0']['architecture'] == searched.content()
    space = AutoDeepLabSpace(3, 1)
    for name, network in networks.items():
        if name.startswith('random'):
            drawn = space.random(int(name[-1]))
            assert network['architecture'] == drawn.content()
        file = work / name / 'retrain_0' / 'result.json'
        result = json.loads(file.read_text())
        assert network['test'] == result['test']['mIoU']
        assert network['val'] == result['val']['mIoU']
        assert 1 < network['seconds'] == result['seconds']
    random = [networks[f'random_{i}'] for i in range(2)]
    for part in ('val', 'test'):
        mean = sum(network[part] for network in random) / 2
        assert statistics[part]['improvement'] == pytest.approx(
            networks['searched_0'][part] - mean
        )
    mean = sum(network['seconds'] for network in networks.values()) / 3
    assert statistics['equal_cost']['candidates'] == pytest.approx(
        1 + statistics['search_seconds'][0] / mean
    )
    losses = statistics['losses']
    assert losses['mean of all'] == losses['supernet of seed 0']
    assert len(set(losses['mean of all'])) == 2
    printed = capsys.readouterr().out
    for text in (printed, (work / 'comparison.md').read_text()):
        assert '| random_1 |' in text and "| Kendall's tau" in text
    assert (work / 'comparison.svg').read_text().count('<svg') == 1


def test_a_comparison_of_something_else_is_refused(config, tmp_path, failure):
    work = tmp_path / 'compared'
    work.mkdir()
    settings = dict(config='a = 1\n', within=None, decode='')
    (work / 'settings.json').write_text(json.dumps(settings))
    text = failure(TOOL, config, '--within', 0.2, '--work-dir', work)
    assert 'with another config and another within' in text
    assert os.listdir(work) == ['settings.json']
    (work / 'settings.json').write_text('{"config"')
    assert 'cannot be read as a result' in failure(
        TOOL, config, '--work-dir', work
    )


@pytest.mark.parametrize(
    'options, sentence',
    [
        (['--random', 0], '--random is 0, but must be 1 or more'),
        (['--one-hot', -1], '--one-hot is -1, but must be 0 or more'),
        (['--within', -0.5], '--within is -0.5, but must be 0 or more'),
        (['--cfg-options', 'custom_hooks=[]'], 'it has no ArchSearchHook'),
        (['--cfg-options', 'val_dataloader=None'], 'has no val_dataloader'),
        (
            [
                '--cfg-options',
                'test_dataloader=None',
                'test_evaluator=None',
                'test_cfg=None',
            ],
            'gives no test_dataloader to its retraining',
        ),
    ],
)
def test_mistakes(config, tmp_path, failure, options, sentence):
    work = tmp_path / 'compared'
    assert sentence in failure(TOOL, config, '--work-dir', work, *options)
    assert not work.exists()


def test_random_networks_are_of_the_size_of_the_searched(config, monkeypatch):
    search = Config.fromfile(config)
    init_default_scope('mmseg')
    args = argparse.Namespace(
        config='c.py', work_dir=None, random=2, within=0.05
    )
    comparison = Comparison(args, search)
    space = AutoDeepLabSpace(3, 1)
    searched = dict(a=space.random(100))
    size = comparison.multiply_adds(searched['a'])
    drawn = comparison.draw(space, searched)
    sizes = {
        seed: comparison.multiply_adds(space.random(seed))
        for seed in range(1 + int([*drawn][-1].split('_')[1]))
    }
    fits = [s for s, n in sizes.items() if 0.95 <= n / size <= 1.05]
    assert drawn == {f'random_{s}': space.random(s) for s in fits}
    # Without a share, the first ones.
    args.within = None
    assert [*comparison.draw(space, searched)] == ['random_0', 'random_1']
    args.within, args.random = 0, 3
    monkeypatch.setattr('mmseg_autodeeplab.cli.comparison.MAX_DRAWS', 2)
    with pytest.raises(UserError, match='^of 6 random architectures, . have'):
        comparison.draw(space, searched)
