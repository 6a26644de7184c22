"""Configs train, validate and test, on a miniature of their data.

One of each combination of data, network and head; test_configs.py looks at
what the others say.
"""

import math

import pytest
import torch
from miniature import CONFIGS, innermost, miniature, read
from mmengine.runner import Runner

RUNS = (
    'autodeeplab/autodeeplab-s_4xb4-1500k_voc12aug-513x513',
    'autodeeplab/autodeeplab-s_4xb4-4000k_ade20k-513x513',
    'autodeeplab/autodeeplab-s_4xb4-4000k_coco-voc21-513x513',
    'autodeeplab/autodeeplab-s_8xb2-1500k_cityscapes-769x769',
    'autodeeplab/autodeeplab-s_8xb2-1500k_cityscapes-coarse-769x769',
    'autodeeplab/search_camvid',
    'autodeeplab/search_cityscapes',
    'autodeeplab/search_demo',
    'camvid/autodeeplab-s_1xb4-600i_camvid-128x128',
    'camvid/deeplabv3plus_r18-d8_1xb4-600i_camvid-128x128',
    'camvid/fcn-unet-s5-d16_1xb4-600i_camvid-128x128',
    'dpc/backbone_mobilenet-v2_1xb8-2000i_camvid-256x256',
    'dpc/backbone_mobilenet-v2_4xb4-90k_coco-voc21-513x513',
    'dpc/dpc_mobilenet-v2-d16_4xb4-90k_person-part-513x513',
    'dpc/dpc_mobilenet-v2-d16_4xb4-90k_voc12aug-513x513',
    'dpc/dpc_mobilenet-v2-d16_8xb2-90k_cityscapes-769x769',
    'dpc/dpc_r101-d16_4xb4-90k_voc12aug-513x513',
    'dpc/dpc_r101-d16_8xb2-90k_cityscapes-769x769',
    'dpc/dpc_x71-d16_4xb4-90k_person-part-513x513',
    'dpc/dpc_x71-d16_4xb4-90k_voc12aug-513x513',
    'dpc/dpc_x71-d16_8xb2-90k_cityscapes-769x769',
    'dpc/search_camvid',
    'dpc/search_cityscapes',
    'dpc/search_demo',
    'dpc/search_voc12aug',
    'stock_heads/pspnet_autodeeplab-s_4xb2-40k_cityscapes-512x1024',
    'stock_heads/upernet_autodeeplab-s_4xb2-40k_cityscapes-512x1024',
    'templates/search_camvid',
    'templates/search_cityscapes',
    'templates/search_demo',
    'templates/template-arch0_1xb16-20k_camvid-256x256',
    'templates/template-arch1_8xb2-160k_cityscapes-512x1024',
)


def combination(name):
    """Data, network and head of a config, and whether it has own hooks."""
    cfg = read(CONFIGS[name])
    data = (
        (dataset.type, str(dataset.get('data_prefix')))
        for dataset in innermost(cfg.train_dataloader.dataset)
    )
    hooks = tuple(hook.type for hook in cfg.get('custom_hooks', []))
    model = cfg.model
    return *data, model.backbone.type, model.decode_head.type, hooks


def test_every_combination_of_data_network_and_head_runs():
    """With drop path where it is without, too: a hook alone is no other."""
    runs = {combination(name) for name in RUNS}
    assert len(runs) == len(RUNS)
    without_hooks = {(*key[:-1], ()) for key in runs}
    assert {combination(name) for name in CONFIGS} <= runs | without_hooks


@pytest.mark.run
@pytest.mark.parametrize('name', RUNS)
def test_config_trains_and_tests(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = miniature(CONFIGS[name], tmp_path)
    if cfg.model.backbone.type == 'TIMMBackbone':
        pytest.importorskip('timm')
    runner = Runner.from_cfg(cfg)
    before = {
        name: p.detach().clone() for name, p in runner.model.named_parameters()
    }
    runner.train()
    # The first layer, the last one and, in a search, the architecture.
    moved = {
        name
        for name, p in runner.model.named_parameters()
        if not torch.equal(p, before[name])
    }
    assert any(name.startswith('decode_head.conv_seg') for name in moved)
    if cfg.model.backbone.type == 'FrozenBackbone':
        parameters = runner.model.backbone.parameters()
        assert not any(p.requires_grad for p in parameters)
    else:
        assert next(iter(before)) in moved
    losses = {
        name: history.current()
        for name, history in runner.message_hub.log_scalars.items()
        if 'loss' in name
    }
    assert all(map(math.isfinite, losses.values())), losses
    assert ('train/arch_loss' in losses) == ('autodeeplab/search' in name)
    assert any('aux' in name for name in losses) == (
        'auxiliary_head' in runner.cfg.model
    )
    assert 0 <= runner.test()['mIoU'] <= 100


@pytest.mark.run
@pytest.mark.parametrize(
    'name',
    [
        'autodeeplab/autodeeplab-s_4xb4-80k_ade20k-513x513',  # sizes
        'camvid/autodeeplab-s_1xb4-600i_camvid-128x128',  # factors
    ],
)
def test_multi_scale_and_flip(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = miniature(CONFIGS[name], tmp_path)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    for resize in cfg.tta_pipeline[-1].transforms[0]:
        if 'scale' in resize:
            resize.scale = tuple(side // 6 for side in resize.scale)
    cfg.model = dict(cfg.tta_model, module=cfg.model)
    runner = Runner.from_cfg(cfg)
    sizes = []
    network = runner.model.module.backbone
    network.register_forward_pre_hook(
        lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:]))
    )
    assert 0 <= runner.test()['mIoU'] <= 100
    # Each scale once as it is and once flipped.
    images = len(runner.test_dataloader.dataset)
    assert len(set(sizes)) == 6
    assert all(sizes.count(size) == 2 * images for size in set(sizes))
