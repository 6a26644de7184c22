"""Crops of which every pixel is ignored, in both halves of a search."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import HOOKS, MODELS
from small_search import search_config

from mmseg_autodeeplab.cli.benchmark import random_batch


@pytest.mark.parametrize('avg_non_ignore', [False, True])
@pytest.mark.parametrize('sampler', [None, dict(type='OHEMPixelSampler')])
def test_nothing_to_learn_from_is_no_nan(tmp_path, avg_non_ignore, sampler):
    cfg = search_config(tmp_path)
    init_default_scope('mmseg')
    cfg.model.decode_head.update(
        sampler=sampler,
        loss_decode=dict(
            type='CrossEntropyLoss', avg_non_ignore=avg_non_ignore
        ),
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    hook = HOOKS.build(dict(type='ArchSearchHook'))
    hook.prepare(model, wrapper)
    batch = random_batch(2, 64, 6)
    for sample in batch['data_samples']:
        sample.gt_sem_seg.data.fill_(255)
    before = {k: v.clone() for k, v in model.named_parameters()}

    assert model.train_step(batch, wrapper)['loss'] == 0
    assert hook.step(model, wrapper, batch)['arch_loss'] == 0
    for name, value in model.named_parameters():
        if name in ('backbone.alphas', 'backbone.betas'):
            # Adam scales its weight decay to the learning rate.
            assert torch.allclose(value, before[name], atol=0.004), name
        else:
            # Gradients are zero, and the weight decay is what moves it.
            expected = before[name] * (1 - 0.025 * 3e-4)
            assert torch.allclose(value, expected, rtol=1e-6), name
    assert all(value.isfinite().all() for value in model.state_dict().values())

    # The next batch is learnt from as ever.
    batch = random_batch(2, 64, 6)
    assert model.train_step(batch, wrapper)['loss'].isfinite()
    assert hook.step(model, wrapper, batch)['arch_loss'].isfinite()
    assert all(v.isfinite().all() for v in model.state_dict().values())
