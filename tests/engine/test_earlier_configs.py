"""Configs that earlier versions wrote still run."""

import pytest
from mmengine.hooks import RuntimeInfoHook
from small_search import build, search_config


@pytest.mark.run
def test_hooks_that_are_gone(tmp_path):
    cfg = search_config(tmp_path, max_iters=1)
    cfg.train_cfg.type = 'IterBasedTrainLoop'
    cfg.default_hooks.update(
        runtime_info=dict(type='DeferredRuntimeInfoHook'),
        data_guard=dict(type='DataGuardHook'),
        exact_resume=dict(type='ExactResumeHook'),
    )
    runner = build(cfg)
    runner.train()
    assert any(type(hook) is RuntimeInfoHook for hook in runner.hooks)
    assert runner.message_hub.get_info('iter') == 0
    assert (tmp_path / 'work' / 'architecture.json').exists()
