"""Two gloo processes take the step of one process on both batches."""

import torch
import torch.multiprocessing as mp
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import distributed, nn

from mmseg_autodeeplab.search.gradient import ArchSearchHook


class Toy(BaseModel):
    """A backbone with two architecture parameters, and one weight."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Linear(3, 1)
        self.backbone.alphas = nn.Parameter(
            torch.randn(3), requires_grad=False
        )
        self.backbone.betas = nn.Parameter(torch.randn(1), requires_grad=False)
        self.backbone.arch_parameters = lambda: [
            self.backbone.alphas,
            self.backbone.betas,
        ]
        self.backbone.architecture = lambda: None

    def forward(self, inputs, mode):
        x = self.backbone(inputs * self.backbone.alphas)
        return dict(loss=(x - self.backbone.betas).square().mean())


def step(batch):
    model = Toy()
    weights = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.1
    )
    optim_wrapper = OptimWrapper(weights)
    hook = ArchSearchHook(optimizer=dict(type='SGD', lr=0.1))
    hook.prepare(model, optim_wrapper)
    hook.step(model, optim_wrapper, dict(inputs=batch))
    return [p.detach().clone() for p in model.backbone.arch_parameters()]


def work(rank, folder):
    distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/store',
        rank=rank,
        world_size=2,
    )
    batch = torch.load(f'{folder}/batch.pth')
    torch.save(step(batch[2 * rank : 2 * rank + 2]), f'{folder}/{rank}.pth')
    distributed.destroy_process_group()


def test_two_ranks_are_one_process_on_both_batches(tmp_path):
    batch = torch.randn(4, 3)
    torch.save(batch, tmp_path / 'batch.pth')
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    expected = step(batch)
    first, second = (torch.load(tmp_path / f'{r}.pth') for r in range(2))
    for a, b, value in zip(first, second, expected):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, value, rtol=1e-6, atol=1e-6)
    # Not what either rank would have found alone.
    alone = step(batch[:2])
    assert not torch.allclose(alone[0], expected[0], rtol=1e-3)
