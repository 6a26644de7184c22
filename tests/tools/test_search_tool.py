"""tools/search.py, and the doors between it and other tools."""

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_autodeeplab.arch import DPCArchitecture, DPCSpace
from mmseg_autodeeplab.search import retrain_config
from mmseg_autodeeplab.search.blackbox import read_reranked, read_results

ROOT = Path(__file__).resolve().parents[2]
CHECK = runpy.run_path(str(ROOT / 'tools' / 'checks' / 'search_kills.py'))


@pytest.fixture
def config(tmp_path):
    """A search on generated scenes, of a network of a few channels."""
    file = CHECK['write_config'](tmp_path, trials=2)
    with open(file, 'a') as f:
        f.write('retrain = dict(train_cfg=dict(max_iters=4))\n')
    return file


@pytest.mark.run
def test_from_search_to_retraining(run_tool, config, tmp_path, capsys):
    work_dir = tmp_path / 'work'
    run_tool('search', config, '--work-dir', work_dir, '--workers', 2)
    results = read_results(str(work_dir))
    assert [(r.state, len(r.rewards)) for r in results] == [
        ('complete', 2)
    ] * 2
    run_tool('decode', work_dir, '--top', 2)
    for i, result in enumerate(results, 1):
        folder = work_dir / 'decoded' / f'top_{i}'
        architecture = DPCArchitecture.load(folder / 'architecture.json')
        assert architecture == result.architecture
        assert architecture.provenance['rewards'] == result.rewards
        assert architecture.provenance['trial'] == result.index
        assert list(folder.glob('*.svg'))
        cfg = Config.fromfile(folder / 'retrain.py')
        assert cfg.model.decode_head.arch == architecture.content()
        assert cfg.train_cfg.max_iters == 4
        assert not {'search', 'retrain'} & {*cfg}
    run_tool('train', work_dir / 'decoded' / 'top_1' / 'retrain.py')
    folder = work_dir / 'decoded' / 'top_1' / 'retrain'
    assert (folder / 'iter_4.pth').is_file()
    worse = results[1].index
    run_tool('rerank', work_dir, '--top', 1, '--trials', worse, '--jobs', 2)
    said = capsys.readouterr().out
    values = {one.trial: one.value for one in read_reranked(str(work_dir))}
    assert {*values} == {0, 1}
    for index, value in values.items():
        assert f'Trial {index}: ' in said and f'{value:.5g}' in said
    run_tool('rerank', work_dir, '--top', 2)
    assert capsys.readouterr().out.count('was trained before') == 2
    run_tool('analysis_tools/search_report', work_dir)
    page = (work_dir / 'search_report.html').read_text()
    assert page.count('<h3>Trial') == 2 and '>Rank by proxy<' in page
    # There is nothing left to do.
    capsys.readouterr()
    run_tool('search', config, '--work-dir', work_dir)
    assert capsys.readouterr().out == ''


@pytest.mark.run
def test_the_head_alone_then_all(run_tool, config, tmp_path):
    """As the proxy of templates: cached features, then end to end."""
    cfg = Config.fromfile(config)
    backbone = cfg.model.backbone
    cfg.model.backbone = dict(type='FrozenBackbone', backbone=backbone)
    averages = dict(type='EMAHook', momentum=0.1)
    cfg.search.update(
        sampler=dict(type='ControllerSampler', buffer=2),
        limit=dict(parameters=10**6),
        trials=1,
        stages=[
            dict(cache_features=True, train_cfg=dict(max_iters=4)),
            dict(
                warm_start=True,
                model=dict(backbone=dict(backbone, _delete_=True)),
                # So that it ends with the weights that it begins with.
                optim_wrapper=dict(optimizer=dict(lr=0.0)),
                custom_hooks=[averages],
            ),
        ],
    )
    cfg.dump(config)
    run_tool('search', config, '--work-dir', tmp_path / 'work')
    folder = tmp_path / 'work' / 'trials' / '0000'
    assert len(read_results(str(tmp_path / 'work'))[0].rewards) == 2
    head, whole = (
        torch.load(folder / file, weights_only=False)
        for file in ('stage_0/iter_4.pth', 'stage_1/iter_24.pth')
    )
    assert 'ema_state_dict' in whole
    head, whole = head['state_dict'], whole['state_dict']
    assert all(name.startswith('decode_head.') for name in head)
    assert any(name.startswith('backbone.') for name in whole)
    for name, value in head.items():
        if 'running' not in name and 'num_batches' not in name:
            assert torch.equal(value, whole[name])


def test_the_config_to_retrain_is_that_of_the_proxy(config):
    """With an architecture in its place, and `retrain` merged over it."""
    search = Config.fromfile(config)
    init_default_scope('mmseg')
    cell = DPCSpace(5).random(0)
    cfg, left_out = retrain_config(search, cell)
    assert left_out == []
    assert cfg.model.pop('decode_head') == dict(
        search.model.pop('decode_head'), arch=cell.content()
    )
    assert cfg.train_cfg == dict(search.train_cfg, max_iters=4)
    for key in ('model', 'train_dataloader', 'optim_wrapper', 'randomness'):
        assert cfg[key] == search[key]
    assert not {'search', 'retrain'} & {*cfg}


def test_the_door_of_a_black_box_search(failure, config):
    text = failure('train', config)
    assert text.endswith(f'which python tools/search.py {config} starts')


def test_the_door_of_a_search_by_gradient(failure):
    config = 'configs/autodeeplab/search_demo.py'
    text = failure('search', ROOT / config)
    assert f'which python tools/train.py {ROOT / config} starts' in text


def test_a_config_without_a_search(failure, config, tmp_path):
    other = tmp_path / 'other.py'
    text = config.read_text().partition('\nsearch = ')
    other.write_text(text[0] + text[2][text[2].index('\nmodel =') :])
    assert 'has no search=dict' in failure('search', other)


@pytest.mark.parametrize(
    'options, sentence',
    [
        (['--storage', 'nowhere://'], 'the storage nowhere:// cannot be used'),
        (['--trials', '0'], 'trials is 0'),
        (['--cfg-options', 'val_dataloader=None'], 'has no val_dataloader'),
        (['--cfg-options', 'search.space.type=Any'], 'must be one of'),
        (['--cfg-options', 'search.sampler.type=Any'], 'must be one of'),
        (['--workers', '0'], '--workers is 0'),
    ],
)
def test_mistakes(failure, monkeypatch, config, tmp_path, options, sentence):
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    text = failure('search', config, '--work-dir', tmp_path / 'w', *options)
    assert sentence in text
    assert not (tmp_path / 'w' / 'trials').exists()


def test_without_optuna(failure, monkeypatch, config, tmp_path):
    monkeypatch.setitem(sys.modules, 'optuna', None)
    for name in ('study', 'worker'):
        module = f'mmseg_autodeeplab.search.blackbox.{name}'
        monkeypatch.delitem(sys.modules, module, raising=False)
    text = failure('search', config, '--work-dir', tmp_path / 'w')
    assert text.endswith('is not installed: pip install "optuna>=4.9,<6"')


@pytest.mark.parametrize('times', [1, 2])
def test_ctrl_c_asks_once(capsys, times):
    tool = runpy.run_path(str(ROOT / 'tools' / 'search.py'))

    class Worker:
        stopping = False

        def run(self):
            for _ in range(times):
                assert not self.stopping or times == 2
                signal.raise_signal(signal.SIGINT)
            self.ended = True

    before = signal.getsignal(signal.SIGINT)
    worker = Worker()
    try:
        if times == 1:
            tool['work'](worker)
            assert worker.stopping and worker.ended
        else:
            with pytest.raises(SystemExit, match='Stopped: the same command'):
                tool['work'](worker)
    finally:
        signal.signal(signal.SIGINT, before)
    assert 'Ctrl-C again stops it now' in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.run
def test_ctrl_c_twice_ends_all_processes(config, tmp_path):
    options = ['--work-dir', tmp_path / 'work', '--workers', 2, '--trials', 9]
    process = subprocess.Popen(
        [sys.executable, ROOT / 'tools/search.py', config, *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline().startswith('trial ')
    process.send_signal(signal.SIGINT)
    asked = 0
    while asked < 2:
        asked += 'Ctrl-C again' in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    # They end with the last worker.
    process.stdout.read()
    assert process.stderr.read().count('Stopped: the same command') == 2
    assert process.wait() == 1
    commands = [
        path.read_bytes()
        for path in Path('/proc').glob('[0-9]*/cmdline')
        if path.parent.exists()
    ]
    assert not any(str(tmp_path).encode() in command for command in commands)


def test_nothing_to_decode(failure, tmp_path):
    assert 'holds no finished trial' in failure('decode', tmp_path)
    for number, file in ((0, tmp_path), (2, tmp_path / 'a.json')):
        text = failure('decode', file, '--top', number)
        assert f'--top is {number}' in text


def test_the_config_of_a_study_is_never_run(failure, tmp_path, config):
    folder = tmp_path / 'work' / 'trials' / '0000'
    folder.mkdir(parents=True)
    cell = dict(branches=[dict(input=-1, op='conv', kernel=1)])
    DPCArchitecture.from_dict(cell).dump(folder / 'architecture.json')
    values = dict(index=0, number=0, state='complete', rewards=[1.0])
    values.update(failure=None, ended='', seconds=1.0)
    (folder / 'reward.json').write_text(json.dumps(values))
    hacked = tmp_path / 'hacked'
    text = f'open({str(hacked)!r}, "w")\n' + config.read_text()
    (tmp_path / 'work' / 'search_config.py').write_text(text)
    assert 'never run' in failure('decode', tmp_path / 'work')
    assert not hacked.exists()


@pytest.mark.slow
@pytest.mark.run
def test_kills(run_tool, capsys):
    run_tool('checks/search_kills', '--trials', 6, '--kills', 2)
    out = capsys.readouterr().out
    assert '6 trials finished once each, all rewards equal' in out


@pytest.mark.run
def test_the_package_needs_no_optuna():
    code = 'import sys; sys.modules["optuna"] = None; import mmseg_autodeeplab'
    subprocess.run([sys.executable, '-c', code], check=True)
