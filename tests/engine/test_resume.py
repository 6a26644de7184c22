"""What is said of a resume that is not one."""

import os

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from small_search import search_config

from mmseg_autodeeplab.engine import changed_options, watch_resume
from mmseg_autodeeplab.errors import UserError

SGD = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01)


def state(type='SGD', groups=((2,),), schedule=False, **options):
    """The state of an optimizer of so many parameters in each group."""
    params = [
        dict(params=[torch.nn.Parameter(torch.ones(n)) for n in sizes])
        for sizes in groups
    ]
    for i, group in enumerate(params):
        group['lr'] = options.get('lr', 0.1) * (i + 1)
    options = {'lr': 0.1, **options}
    optimizer = getattr(torch.optim, type)(params, **options)
    if schedule:
        torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for group in optimizer.param_groups:
            group['lr'] *= 0.5
    return OptimWrapper(optimizer).state_dict()


@pytest.mark.parametrize(
    'saved,built,notes',
    [
        ({}, {}, []),
        (dict(schedule=True), {}, []),
        (dict(schedule=True), dict(schedule=True), []),
        ({}, dict(lr=0.2), ['lr is 0.1 in the checkpoint and 0.2']),
        (
            dict(schedule=True, momentum=0.9),
            dict(lr=0.3, momentum=0.5),
            ['lr is 0.1 in the', 'momentum is 0.9 in the checkpoint and 0.5'],
        ),
        (
            dict(type='Adam'),
            dict(type='Adam', betas=(0.5, 0.999)),
            ['betas is (0.9, 0.999) in the checkpoint and (0.5, 0.999)'],
        ),
        (
            dict(groups=((1,), (2,)), weight_decay=0.1),
            dict(groups=((1,), (2,))),
            ['weight_decay (in 2 groups of parameters) is 0.1 in'],
        ),
    ],
)
def test_options_that_the_checkpoint_overrides(saved, built, notes):
    found = list(changed_options('opt', state(**saved), state(**built)))
    assert len(found) == len(notes)
    for note, expected in zip(found, notes):
        assert note.startswith(f'opt.{expected}')
    assert all(
        f'{n.split(" is ")[1].split(" in ")[0]} is used' in n for n in found
    )


def test_options_of_another_version_of_torch():
    saved, built = state(), state()
    built['param_groups'][0]['of_a_later_one'] = 1
    assert list(changed_options('opt', saved, built)) == []
    assert list(changed_options('opt', built, saved)) == []


@pytest.mark.parametrize(
    'built,sentence',
    [
        (dict(type='Adam'), 'has amsgrad, betas'),
        (dict(groups=((2,), (2,))), 'has 2 groups of 2 parameters by the co'),
        (dict(groups=((2, 2),)), 'has 1 groups of 2 parameters by the config'),
    ],
)
def test_optimizers_that_cannot_go_on(built, sentence):
    """In torch, the first ends training, the others the resume."""
    with pytest.raises(UserError, match=sentence) as error:
        list(changed_options('opt', state(), state(**built)))
    assert '\n' not in str(error.value)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('search')


def config(folder, name='saved', resume=None):
    cfg = search_config(folder, max_iters=2)
    cfg.work_dir = str(folder / name)
    cfg.param_scheduler = [dict(type='PolyLR', end=4, by_epoch=False)]
    if resume:
        cfg.update(resume=True, load_from=str(resume))
    cfg.train_cfg.max_iters = 3 if resume else 2
    return cfg


def warnings_of(cfg):
    runner = Runner.from_cfg(cfg)
    watch_resume(runner)
    runner.train()
    log = os.path.join(runner.log_dir, f'{runner.timestamp}.log')
    lines = open(log).read().splitlines()
    return runner, [
        line.partition('stopped: ')[2]
        for line in lines
        if 'not exactly' in line
    ]


@pytest.fixture(scope='module')
def saved(folder):
    cfg = config(folder)
    Runner.from_cfg(cfg).train()
    return folder / 'saved' / 'iter_2.pth'


@pytest.mark.run
@pytest.mark.parametrize('loop', ['SeededIterBasedTrainLoop', 'other'])
def test_one_warning_names_all_that_goes_on_otherwise(
    folder, saved, tmp_path, loop
):
    cfg = config(folder, f'changed_{loop}', saved)
    cfg.optim_wrapper.optimizer.update(lr=0.5, weight_decay=0)
    cfg.param_scheduler[0].update(end=9, power=2)
    cfg.param_scheduler.append(dict(type='ConstantLR', by_epoch=False))
    cfg.custom_hooks[0].optimizer = dict(type='Adam', lr=0.5)
    if loop == 'other':
        cfg.train_cfg.type = 'IterBasedTrainLoop'
    runner, (warning,) = warnings_of(cfg)
    notes = warning.removesuffix('.').split('; ')
    assert sorted(note.partition(',')[0] for note in notes) == [
        'ArchSearchHook.optimizer.lr is 0.003 in the checkpoint and 0.5 in '
        'the config',
        'ArchSearchHook.optimizer.weight_decay is 0.001 in the checkpoint '
        'and 0 in the config',
        'optim_wrapper.optimizer.lr is 0.025 in the checkpoint and 0.5 in '
        'the config',
        'optim_wrapper.optimizer.weight_decay is 0.0003 in the checkpoint '
        'and 0 in the config',
        'param_scheduler.0.end is 4 in the checkpoint and 9 in the config',
        'param_scheduler.0.power is 1.0 in the checkpoint and 2 in the config',
        'param_scheduler.0.total_iters is 3 in the checkpoint and 8 in the '
        'config',
        'the checkpoint has no state of param_scheduler.1',
        'train_cfg.max_iters is 2 in the checkpoint and 3 in the config',
    ]
    # What it says is so.
    (group,) = runner.optim_wrapper.param_groups
    assert group['initial_lr'] == 0.025 and group['weight_decay'] == 3e-4
    assert runner.param_schedulers[0].end == 4


@pytest.mark.run
def test_one_without_an_optimizer(folder, saved):
    """As a best one is, where the iteration and more are there."""
    content = torch.load(saved, weights_only=False)
    del content['optimizer'], content['param_schedulers']
    torch.save(content, folder / 'best_mIoU_iter_2.pth')
    cfg = config(folder, 'best', folder / 'best_mIoU_iter_2.pth')
    runner, (warning,) = warnings_of(cfg)
    assert warning.split('; ')[:2] == [
        'the checkpoint has no optimizer, so momentum starts at zero',
        'the checkpoint has no state of param_scheduler.0, so PolyLR starts '
        'again from its beginning',
    ]


@pytest.mark.run
def test_a_kill_before_a_removal(folder, tmp_path, monkeypatch):
    """The checkpoint tells what it replaces."""
    cfg = config(folder)
    cfg.work_dir = str(tmp_path)
    cfg.default_hooks.checkpoint.update(
        interval=1, max_keep_ckpts=1, backend_args=dict(backend='atomic')
    )
    Runner.from_cfg(cfg).train()
    saved = [
        torch.load(file, weights_only=False) for file in tmp_path.glob('*.pth')
    ]
    assert [content['replaces'] for content in saved] == [['iter_1.pth']]
