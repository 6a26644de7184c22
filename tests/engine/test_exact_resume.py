"""A run that is resumed against the run that was never stopped."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from mmengine.runner import Runner, ValLoop
from test_arch_search_hook import search_config

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location(
    'check_resume', ROOT / 'tools' / 'checks' / 'resume.py'
)
check_resume = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_resume)


def config(tmp_path, name, resume_from=None, workers=0):
    """A search with all that is random; validation after 3 of 6 steps."""
    cfg = search_config(tmp_path, max_iters=6, begin=1, interval=2)
    cfg.work_dir = str(tmp_path / name)
    cfg.model.decode_head.dropout_ratio = 0.1
    cfg.optim_wrapper.optimizer.lr = 0.5  # For metrics that move.
    loader = cfg.train_dataloader
    loader.update(num_workers=workers, persistent_workers=workers > 0)
    loader.dataset.pipeline.insert(2, dict(type='PhotoMetricDistortion'))
    cfg.val_dataloader = dict(
        loader, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    cfg.val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    cfg.val_cfg = dict(type='ValLoop')
    cfg.train_cfg.val_interval = 3
    cfg.default_hooks.checkpoint.update(interval=1, save_best='mIoU')
    cfg.default_hooks.exact_resume = dict(type='ExactResumeHook')
    if resume_from:
        cfg.update(resume=True, load_from=str(resume_from))
    return cfg


def train(cfg):
    runner = Runner.from_cfg(cfg)
    runner.train()
    return Path(runner.work_dir)


def differences(straight, resumed):
    return list(
        check_resume.differences(
            *(
                check_resume.final_state(folder, 'iter_6.pth')
                for folder in (straight, resumed)
            )
        )
    )


def exactness_warnings(work_dir):
    """Warnings of the last run in a folder."""
    log = max(work_dir.glob('*/*.log'), key=os.path.getmtime)
    return [
        line
        for line in log.read_text().splitlines()
        if 'WARNING' in line and 'not exactly' in line
    ]


@pytest.mark.parametrize('workers,stops', [(0, (2, 3)), (1, (3,)), (2, (2,))])
def test_not_a_bit_differs(tmp_path, workers, stops):
    """At a checkpoint with a validation after it, and at one without."""
    straight = train(config(tmp_path, 'straight', workers=workers))
    for stop in stops:
        folder = tmp_path / f'from_{stop}'
        shutil.copytree(
            straight, folder, ignore=shutil.ignore_patterns('2*', 'iter_6*')
        )
        file = straight / f'iter_{stop}.pth'
        train(config(tmp_path, folder.name, file, workers))
        assert differences(straight, folder) == []
        assert exactness_warnings(folder) == []


class Stopped(Exception):
    pass


@pytest.mark.parametrize('stop', [3, 6])
def test_a_validation_is_caught_up(tmp_path, monkeypatch, stop):
    """The checkpoint is written before it, its metrics are in no file."""
    straight = train(config(tmp_path, 'straight'))
    validate = ValLoop.run

    def validate_or_stop(self):
        if self.runner.iter == stop:
            raise Stopped
        return validate(self)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(ValLoop, 'run', validate_or_stop)
        train(config(tmp_path, 'stopped'))
    file = tmp_path / 'stopped' / f'iter_{stop}.pth'
    stopped = train(config(tmp_path, 'stopped', file))
    assert differences(straight, stopped) == []


def test_the_comparison_sees_randomness(tmp_path):
    """Or the tests above would prove nothing."""
    straight = train(config(tmp_path, 'straight'))
    cfg = config(tmp_path, 'resumed', straight / 'iter_2.pth')
    del cfg.default_hooks.exact_resume
    found = differences(straight, train(cfg))
    assert 'state_dict.backbone.alphas' in found
    assert any(name.startswith('optimizer.state') for name in found)
