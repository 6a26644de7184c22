"""The gap of the decode in a search, which must not notice it."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from small_search import build, search_config

from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search.gradient import (
    DiscretizationGapHook,
    evaluate,
    state,
)

HOOK = dict(type='DiscretizationGapHook', interval=2, batches=2)
ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location(
    'check_resume', ROOT / 'tools' / 'checks' / 'resume.py'
)
check_resume = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_resume)
pytestmark = pytest.mark.run


class Draws(Hook):
    """See what a run has left of the generator, and of its own."""

    priority = 'LOWEST'

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=1):
        self.seen.append(torch.get_rng_state().tolist())


def search(tmp_path, name, *gap, resume_from=None, **kwargs):
    cfg = search_config(tmp_path, max_iters=5, begin=1, **kwargs)
    cfg.work_dir = str(tmp_path / name)
    cfg.model.decode_head.dropout_ratio = 0.3
    cfg.custom_hooks += gap
    if resume_from:
        cfg.update(resume=True, load_from=str(resume_from))
    runner = build(cfg)
    draws = Draws()
    runner.register_hook(draws)
    runner.train()
    return runner, draws.seen


def differences(tmp_path, *names):
    """Names of what differs at the end, with all that a run has logged."""
    states = []
    for name in names:
        folder = tmp_path / name
        checkpoint = torch.load(folder / 'iter_5.pth', weights_only=False)
        logged = checkpoint['message_hub']['log_scalars']
        states.append(
            dict(
                check_resume.final_state(folder, 'iter_5.pth'),
                logged={
                    key: [list(map(float, x)) for x in values.data]
                    for key, values in logged.items()
                    if 'time' not in key
                },
            )
        )
    return list(check_resume.differences(*states))


def gaps(runner):
    folder = os.path.join(runner.work_dir, runner.timestamp, 'vis_data')
    with open(os.path.join(folder, 'scalars.json')) as f:
        lines = map(json.loads, f)
        return [line for line in lines if 'gap/relaxed_loss' in line]


def test_a_search_does_not_notice(tmp_path):
    with_gap, numbers = search(tmp_path, 'with', HOOK, score='lift')
    alone, expected = search(tmp_path, 'without', score='lift')
    assert numbers == expected
    assert differences(tmp_path, 'with', 'without') == []
    assert gaps(alone) == []
    first, second, end = gaps(with_gap)
    assert [first['step'], second['step'], end['step']] == [2, 4, 5]
    assert first['gap/relaxed_loss'] != end['gap/relaxed_loss']

    # Now on the model that the search has come to.
    backbone = with_gap.model.backbone
    decoded = backbone.architecture('lift')
    assert decoded != backbone.architecture()
    stream = state.part_b_stream(with_gap)
    data = with_gap.train_dataloader.dataset.dataset
    assert stream.loader.dataset.dataset is data
    batches = [next(stream), next(stream)]
    for name, architecture in dict(relaxed=None, one_hot=decoded).items():
        result = evaluate(with_gap.model, batches, architecture)
        assert result == {
            key: end[f'gap/{name}_{key}'] for key in ('loss', 'mIoU')
        }
    log = os.path.join(
        with_gap.work_dir, with_gap.timestamp, f'{with_gap.timestamp}.log'
    )
    with open(log) as f:
        text = f.read()
    assert (
        'After 5 iterations, on 2 batches of part B: relaxed loss '
        f'{end["gap/relaxed_loss"]:.4f} and mIoU'
    ) in text


def test_a_resumed_search_measures_on_the_same_images(tmp_path):
    straight, _ = search(tmp_path, 'straight', HOOK)
    file = tmp_path / 'straight' / 'iter_2.pth'
    resumed, _ = search(tmp_path, 'resumed', HOOK, resume_from=file)
    assert gaps(resumed) == gaps(straight)[1:]
    assert differences(tmp_path, 'straight', 'resumed') == []


def test_it_needs_a_search(tmp_path):
    cfg = search_config(tmp_path)
    cfg.custom_hooks = [HOOK]
    with pytest.raises(UserError, match='but custom_hooks has none; add it'):
        build(cfg).train()
    with pytest.raises(UserError, match='batches is 0, but must be'):
        DiscretizationGapHook(batches=0)
