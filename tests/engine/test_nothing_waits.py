"""Search and retraining read nothing off the device between two lines.

The model is on the meta device, so whatever reads a value of a tensor there,
or makes a size of one (``item()``, ``if tensor``, a boolean mask, ``cpu()``),
fails. The data is loaded on the CPU, and Adam counts its steps there: these
are real, and may be read. What a copy to a GPU waits for is not seen.
"""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_autodeeplab.arch import Architecture, Connection
from mmseg_autodeeplab.engine import SearchVisualizationHook
from mmseg_autodeeplab.models.decode_heads.wait_free_head import WaitFreeHead

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
LINE = 4
SEARCH = dict(
    _base_=[f'{CONFIGS}/autodeeplab/search_demo.py'],
    model=dict(
        data_preprocessor=dict(size=(33, 33)),
        backbone=dict(
            num_layers=3, num_blocks=1, filter_multiplier=2, stem_channels=4
        ),
        decode_head=dict(in_channels=[2, 4, 8, 16]),
    ),
    # The first iteration has no architecture half.
    custom_hooks=[dict(type='ArchSearchHook', begin=1)],
)
ARCHITECTURE = Architecture(
    cell=[[Connection(1, 'atrous_conv_5x5'), Connection(0, 'sep_conv_3x3')]],
    path=[4, 4, 8],
)
RETRAIN = dict(
    _base_=[
        f'{CONFIGS}/_base_/{name}.py'
        for name in (
            'models/autodeeplab',
            'datasets/shapes',
            'default_runtime',
            'schedules/camvid_600i',  # By AdamW.
        )
    ],
    model=dict(
        data_preprocessor=dict(size=(33, 33)),
        backbone=dict(
            arch=dict(ARCHITECTURE.to_dict(), _delete_=True),
            filter_multiplier=2,
            stem_channels=4,
        ),
        decode_head=dict(
            in_channels=[2, 4],
            channels=4,
            low_level_channels=2,
            num_classes=6,
        ),
    ),
    custom_hooks=[dict(type='ScheduledDropPathHook', keep_prob=0.8)],
)
ALL_ELSE = [
    dict(
        type='ArchSearchHook',
        begin=1,
        cost=dict(target=1e9, shape=(65, 65)),
    ),
    dict(type='EMAHook', ema_type='SearchEMA'),
]
ACCUMULATING = dict(accumulative_counts=2)


def on_meta(tmp_path, monkeypatch, recipe, **changes):
    """A runner of a config whose model has shapes, but no values."""
    file = tmp_path / 'config.py'
    file.write_text('\n'.join(f'{k} = {v!r}' for k, v in recipe.items()))
    cfg = Config.fromfile(file)
    cfg.merge_from_dict(changes)
    cfg.work_dir = str(tmp_path / 'work')
    cfg.experiment_name = tmp_path.name
    cfg.train_dataloader.update(
        batch_size=2, num_workers=0, persistent_workers=False
    )
    cfg.train_dataloader.dataset.update(
        data_root=str(tmp_path / 'shapes'), num_images=20
    )
    cfg.train_dataloader.dataset.pipeline[2].crop_size = (33, 33)
    cfg.default_hooks.logger.interval = LINE
    for part in ('dataloader', 'cfg', 'evaluator'):
        cfg.pop(f'val_{part}')
        cfg.pop(f'test_{part}')
    monkeypatch.setattr('mmengine.runner.runner.get_device', lambda: 'meta')
    monkeypatch.setattr(Runner, '_init_model_weights', lambda self: None)
    # It shows what the run begins with, before the first iteration.
    monkeypatch.setattr(
        SearchVisualizationHook, 'before_train', lambda *args: None
    )
    return Runner.from_cfg(cfg)


def stopped_by_a_read(runner):
    """The iteration that could not go on without a value."""
    with pytest.raises((RuntimeError, NotImplementedError), match='meta'):
        runner.train()
    return runner.iter + 1


@pytest.mark.parametrize(
    'recipe,changes',
    [
        (SEARCH, dict()),
        (
            SEARCH,
            dict(custom_hooks=ALL_ELSE, optim_wrapper=ACCUMULATING),
        ),
        (RETRAIN, dict()),
    ],
    ids=['search', 'search with all else', 'retrain'],
)
def test_nothing_waits_between_two_lines(
    tmp_path, monkeypatch, recipe, changes
):
    runner = on_meta(tmp_path, monkeypatch, recipe, **changes)
    assert stopped_by_a_read(runner) == LINE


def test_what_the_stock_parts_wait_for_is_seen(tmp_path, monkeypatch):
    stock = dict(runtime_info=dict(type='RuntimeInfoHook'))
    runner = on_meta(tmp_path, monkeypatch, SEARCH, default_hooks=stock)
    assert stopped_by_a_read(runner) == 1
    monkeypatch.delattr(WaitFreeHead, 'loss_by_feat')
    runner = on_meta(tmp_path, monkeypatch, SEARCH)
    assert stopped_by_a_read(runner) == 1
