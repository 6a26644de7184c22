"""The supernet of a checkpoint is that of the search, and so is its data."""

import json

import pytest
from mmengine.config import Config
from small_search import build, search_config

from mmseg_autodeeplab.cli import open_supernet, read_architecture
from mmseg_autodeeplab.compat.registry import known_types_only
from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.search.gradient import evaluate


@pytest.mark.run
def test_the_gap_of_a_checkpoint_is_that_of_the_search(tmp_path):
    cfg = search_config(tmp_path, max_iters=2)
    cfg.custom_hooks.append(dict(type='DiscretizationGapHook', batches=3))
    cfg.randomness.seed = 7
    # As MMEngine takes it, too.
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    runner = build(cfg)
    runner.train()
    log = tmp_path / 'work' / runner.timestamp / 'vis_data' / 'scalars.json'
    (line,) = (x for x in map(json.loads, open(log)) if 'gap/' in str(x))

    file = str(tmp_path / 'work' / 'iter_2.pth')
    architecture, search, _ = read_architecture(file)
    before = search.pretty_text
    with known_types_only():
        model, batches = open_supernet(file, search, 3)
        found = (
            evaluate(model, batches),
            evaluate(model, batches, architecture),
        )
    for name, values in zip(('relaxed', 'one_hot'), found):
        assert values['loss'] == line[f'gap/{name}_loss']
        assert values['mIoU'] == line[f'gap/{name}_mIoU']
    assert search.pretty_text == before

    def refused(match, **changes):
        wrong = Config(search.to_dict())
        wrong.merge_from_dict(changes)
        with pytest.raises(UserError, match=match) as error:
            open_supernet(file, wrong, 1)
        assert '\n' not in str(error.value)

    loader, backbone = 'train_dataloader', 'model.backbone'
    nowhere = dict(type='CamVidDataset', data_root='nowhere')
    for match, key, value in (
        ('has no part B of', f'{loader}.sampler.type', 'InfiniteSampler'),
        ('does not fit the model', f'{backbone}.num_layers', 4),
        ('data cannot be built .TypeError', f'{backbone}.num_blocks', 'a'),
        ('nowhere does not exist: check', f'{loader}.dataset', nowhere),
    ):
        refused(match, **{key: value})
