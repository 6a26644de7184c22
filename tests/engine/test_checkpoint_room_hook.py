import io
import shutil
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper
from torch import nn

from mmseg_autodeeplab.engine import CheckpointRoomHook
from mmseg_autodeeplab.engine.checkpoints import checkpoint_size
from mmseg_autodeeplab.errors import UserError

OPTIMIZERS = dict(
    plain=lambda p: torch.optim.SGD(p, lr=0.1),
    momentum=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    adamw=lambda p: torch.optim.AdamW(p),
)


def network():
    model = nn.Sequential(nn.Linear(300, 300), nn.BatchNorm1d(300))
    model.fixed = nn.Parameter(torch.zeros(300, 300), requires_grad=False)
    return model


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_the_estimate_is_what_is_saved(name):
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    estimate = checkpoint_size(model, optimizer)
    model(torch.randn(4, 300)).square().sum().backward()
    optimizer.step()
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    assert estimate == pytest.approx(file.tell(), rel=0.02)


@pytest.mark.parametrize('missing', [0, 1])
@pytest.mark.parametrize('averages,needed', [([], 2.2), ([EMAHook], 3.6)])
def test_there_must_be_room_for_two(
    tmp_path, monkeypatch, averages, needed, missing
):
    model = network()
    optimizer = OPTIMIZERS['momentum'](model.parameters())
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=OptimWrapper(optimizer),
        work_dir=str(tmp_path),
        hooks=[hook() for hook in averages],
    )
    for hook in runner.hooks:
        hook.before_run(runner)
    trained, not_trained = 300 * 300 + 3 * 300, 300 * 300 + 2 * 300
    state = 4 * (trained + not_trained) + 8  # The batches are counted.
    size = 4 * trained + state * (1 + len(averages))
    free = 2 * size - missing
    monkeypatch.setattr(
        shutil, 'disk_usage', lambda folder: SimpleNamespace(free=free)
    )
    if not missing:
        CheckpointRoomHook().before_train(runner)
        return
    with pytest.raises(UserError) as error:
        CheckpointRoomHook().before_train(runner)
    assert str(error.value) == (
        f'The disk of {tmp_path} has {needed} MB left, but two checkpoints '
        f'need {needed} MB; free some space, or set another --work-dir.'
    )
