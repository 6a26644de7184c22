"""A loop that ends with the samples gets no sampler that never ends."""

import pytest
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.registry import init_default_scope
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, ValLoop
from mmseg.registry import DATA_SAMPLERS, LOOPS
from tiny_config import write_config

from mmseg_autodeeplab.datasets import SplitInfiniteSampler
from mmseg_autodeeplab.engine import SeededIterBasedTrainLoop, check_ends
from mmseg_autodeeplab.errors import UserError


@LOOPS.register_module()
class OwnEpochLoop(EpochBasedTrainLoop):
    pass


@DATA_SAMPLERS.register_module()
class OwnEndlessSampler(InfiniteSampler):
    pass


@DATA_SAMPLERS.register_module()
class SamplerOfASampler:
    pass


EPOCHS = [
    dict(type='EpochBasedTrainLoop'),
    dict(type='mmengine.EpochBasedTrainLoop'),
    dict(type='mmengine.runner.loops.EpochBasedTrainLoop'),
    dict(type=EpochBasedTrainLoop),
    dict(type='OwnEpochLoop'),
    dict(by_epoch=True),
]
ITERATIONS = [
    dict(type='IterBasedTrainLoop'),
    dict(type=IterBasedTrainLoop),
    dict(type=SeededIterBasedTrainLoop),
    dict(by_epoch=False),
    dict(type='NoSuchLoop'),  # The runner says so.
    dict(),
]
ENDLESS = [
    dict(type='InfiniteSampler'),
    dict(type='mmengine.InfiniteSampler'),
    dict(type=InfiniteSampler),
    dict(type='SplitInfiniteSampler'),
    dict(type=SplitInfiniteSampler),
    dict(type='OwnEndlessSampler'),
    dict(type='SamplerOfASampler', sampler=dict(type='InfiniteSampler')),
]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


def config(part, loop, sampler):
    return Config(
        {
            f'{part}_cfg': loop,
            f'{part}_dataloader': dict(sampler=sampler),
        }
    )


@pytest.mark.parametrize('sampler', ENDLESS, ids=str)
def test_no_end(sampler):
    for part, loops in dict(
        train=EPOCHS,
        val=[dict(), dict(type='ValLoop'), dict(type=ValLoop)],
        test=[dict(), dict(type='mmengine.TestLoop')],
    ).items():
        for loop in loops:
            cfg = config(part, loop, sampler)
            with pytest.raises(UserError, match='never ends') as error:
                check_ends(cfg, part)
            text = str(error.value)
            assert '\n' not in text and '<class' not in text
            assert ('of iterations' in text) == (part == 'train')
            check_ends(cfg, *({'train', 'val', 'test'} - {part}))


def test_an_end():
    for loop in ITERATIONS:
        for sampler in ENDLESS:
            check_ends(config('train', loop, sampler), 'train')
    for loop in EPOCHS + ITERATIONS:
        for sampler in (dict(type='DefaultSampler'), None):
            check_ends(config('train', loop, sampler), 'train')
    check_ends(Config(dict(val_cfg=None, val_dataloader=None)), 'val', 'test')


@pytest.mark.parametrize(
    'tool, text, part',
    [
        (
            'train',
            "train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)",
            'train',
        ),
        ('train', 'train_cfg = dict(by_epoch=True, max_epochs=1)', 'train'),
        (
            'train',
            'from mmengine.dataset import InfiniteSampler as Endless\n'
            'val_dataloader["sampler"] = dict(type=Endless)',
            'val',
        ),
        (
            'test',
            "test_dataloader['sampler'] = dict(type='InfiniteSampler')",
            'test',
        ),
    ],
)
def test_the_tools_refuse_at_once(tmp_path, failure, tool, text, part):
    file = write_config(tmp_path)
    file.write_text(f'{file.read_text()}\n{text}\n')
    args = [file] if tool == 'train' else [file, 'no.pth']
    error = failure(tool, *args, '--work-dir', tmp_path / 'work')
    assert error.startswith(f'Error: {part}_cfg has the loop ')
    assert 'never ends' in error and not (tmp_path / 'work').exists()
