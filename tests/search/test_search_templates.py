"""Templates are searched, decoded and retrained like other kinds."""

import pytest
from miniature import CONFIGS, read
from small_study import search_config, worker

from mmseg_autodeeplab.arch import (
    ZOO,
    DPCSpace,
    TemplateArchitecture,
    TemplateSpace,
)
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search.blackbox import read_results
from mmseg_autodeeplab.search.retrain_config import retrain_config


def train(cfg, folder, report, held):
    """Train nothing: sums are good, and so are repeats."""
    arch = TemplateArchitecture.from_dict(cfg.model.decode_head.arch.to_dict())
    sums = sum(t.aggregation == 'psum' for t in arch.templates)
    value = dict(mIoU=10.0 * sums + sum(n.repeats for n in arch.layers))
    report(1, value)
    return value


@pytest.mark.parametrize(
    'sampler', ['UniformSampler', 'NearBestSampler', 'TPESampler']
)
def test_any_sampler_draws_them(tmp_path, sampler):
    space = dict(type='TemplateSpace', num_templates=3, num_layers=7)
    cfg = search_config(space=space, sampler=dict(type=sampler), trials=8)
    cfg.model.decode_head = dict(
        type='TemplateHead', in_channels=[64, 128], num_classes=2
    )
    worker(tmp_path, cfg, train=train).run()
    results = read_results(str(tmp_path))
    drawn = [result.architecture for result in results]
    assert [result.state for result in results] == ['complete'] * 8
    assert {one.space() for one in drawn} == {TemplateSpace()}
    assert len({tuple(one.to_vector()) for one in drawn}) == 8


def test_what_was_found_is_retrained():
    """By the config of the search, in the place of a published one."""
    name = 'templates/template-arch0_1xb16-20k_camvid-256x256'
    search = read(CONFIGS[name])
    search.search = dict(space=dict(type='TemplateSpace'))
    search.retrain = dict(train_cfg=dict(max_iters=7))
    found, left_out = retrain_config(search, ZOO['arch1'])
    assert left_out == []
    head = found.model.decode_head
    assert head.arch == ZOO['arch1'].content()
    assert dict(head, arch=0) == dict(search.model.decode_head, arch=0)
    assert found.train_cfg.max_iters == 7
    with pytest.raises(UserError, match='but model.decode_head is a Templ'):
        retrain_config(search, DPCSpace(2).random(0))
