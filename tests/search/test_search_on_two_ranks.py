"""A search of two gloo processes through the runner, and one of one."""

import gc
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from mmengine.hooks import Hook
from small_search import (
    FixedNorms,
    build,
    paths,
    search_config,
    search_hook,
)
from torch import distributed

from mmseg_autodeeplab import cli
from mmseg_autodeeplab.engine import bare_model
from mmseg_autodeeplab.errors import UserError

pytestmark = pytest.mark.run
FORMS = ('fused', 'reference')


class Images(Hook):
    """Write down what both steps see."""

    def __init__(self):
        self.seen = []

    def before_train(self, runner):
        arch_step = search_hook(runner).arch_step
        step = arch_step.step

        def recorded(batch):
            self.seen.append(paths(batch))
            return step(batch)

        arch_step.step = recorded

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(paths(data_batch))


class Disturb(Hook):
    """Move one alpha, by as little as can be, on the last rank."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=1):
        if runner.iter == 2 and runner.rank == 1:
            alphas = bare_model(runner).backbone.alphas
            alphas[0, 0] = torch.nextafter(alphas[0, 0], torch.tensor(9.0))


def config(folder, name, launcher):
    cfg = search_config(Path(folder), max_iters=6)
    cfg.experiment_name = f'{name}_{launcher}'
    cfg.work_dir = os.path.join(folder, name, launcher)
    cfg.launcher = launcher
    cfg.train_dataloader.batch_size = 4 if launcher == 'none' else 2
    cfg.train_dataloader.dataset.num_images = 24
    # Without batch norm's care, more lets rounding grow.
    cfg.optim_wrapper.optimizer.lr = 0.005
    cli.start_processes(cfg)
    return cfg


def train(cfg, *hooks):
    runner = build(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return bare_model(runner).state_dict()


def work(rank, folder, port):
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE='2',
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port),
    )
    results = compare(folder, 'pytorch')
    with pytest.raises(UserError) as error:
        train(config(folder, 'disturbed', 'pytorch'), Disturb())
    results['disturbed'] = str(error.value)
    torch.save(results, os.path.join(folder, f'{rank}.pth'))
    gc.collect()  # The models, before their group.
    distributed.destroy_process_group()
    if rank == 0:
        torch.save(compare(folder, 'none'), os.path.join(folder, 'alone.pth'))


def compare(folder, launcher):
    results = {}
    for form in FORMS:
        cfg = config(folder, form, launcher)
        cfg.model.backbone.form = form
        images = Images()
        state = train(cfg, FixedNorms(), images)
        results[form] = dict(state=state, images=images.seen)
    return results


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """What the processes leave behind."""
    folder = tmp_path_factory.mktemp('ranks')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('CUDA_VISIBLE_DEVICES', '')
        mp.spawn(work, (str(folder), port), nprocs=2)
    return folder


@pytest.fixture(scope='module')
def results(folder):
    return [torch.load(folder / f'{name}.pth') for name in (0, 1, 'alone')]


@pytest.mark.parametrize('form', FORMS)
def test_two_ranks_at_half_the_batch_are_one_process(results, form):
    first, second, alone = (result[form]['state'] for result in results)
    assert first.keys() == second.keys() == alone.keys()
    for key, expected in alone.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(
            first[key], expected, rtol=0, atol=1e-6, msg=key
        )


def test_weights_and_architecture_have_moved(results, folder):
    """By far more than the tolerance, all that can."""
    file = folder / 'fused' / 'none' / 'iter_2.pth'
    early = torch.load(file, weights_only=False)['state_dict']
    late = results[-1]['fused']['state']
    for key in ('alphas', 'betas', 'layers.0.0.entries.0.1.weight'):
        moved = late[f'backbone.{key}'] - early[f'backbone.{key}']
        assert moved.abs().max() > 1e-3, key


@pytest.mark.parametrize('form', FORMS)
def test_two_ranks_see_the_images_of_one_process(results, form):
    """Iteration by iteration, in either step, and no rank those of another."""
    first, second, alone = (result[form]['images'] for result in results)
    assert len(first) == len(second) == len(alone) == 12
    for mine, other, all_images in zip(first, second, alone):
        assert not set(mine) & set(other)
        assert sorted(mine + other) == sorted(all_images)


def test_ranks_that_disagree_are_stopped_before_the_checkpoint(
    results, folder
):
    first, second, _ = results
    assert first['disturbed'] == second['disturbed']
    assert first['disturbed'].startswith(
        'After 4 iterations, alphas and betas on rank 1 are not those on'
    )
    assert '\n' not in first['disturbed']
    written = {f.name for f in (folder / 'disturbed').rglob('*.pth')}
    assert written == {'iter_2.pth'}
