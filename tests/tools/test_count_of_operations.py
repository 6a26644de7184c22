"""The count of dispatched operations, and what it must not rise to again."""

import re

import torch
from torch import nn

# Of the steps on weights and architecture, before operations were saved.
BEFORE = 29183, 25969


def test_a_third_is_saved(run_tool, capsys):
    run_tool('checks/operations', '--rows', 1000)
    rows = re.findall(r'(\w+) *\| *(\d+) *\| *(\d+)', capsys.readouterr().out)
    rows = {name: tuple(map(int, numbers)) for name, *numbers in rows}
    totals = rows.pop('all')
    assert totals == tuple(map(sum, zip(*rows.values())))
    # Older PyTorch has these for slices that leave nothing out, too.
    slices = rows.get('slice_backward', (0, 0))
    for total, of_slices, before in zip(totals, slices, BEFORE):
        assert before / 2 < total - of_slices <= 2 / 3 * before


def test_what_is_counted(load_tool):
    """Neither views nor optimizers, but what comes after these."""
    weight = nn.Parameter(torch.randn(2, 3))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    with load_tool('checks/operations').Count() as counter:
        weight.t().view(-1, 2)[0].detach().mul(2).add_(3)
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        weight.grad.square()
    assert counter.found == dict(mul=1, add_=1, ones_like=1, pow=1)
    optimizer.step()
    assert sum(counter.found.values()) == 4
