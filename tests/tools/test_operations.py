"""The count of dispatched operations, and what it must not rise to again."""

import re

import torch
from torch import nn

# Of the fused form, before operations were saved.
BEFORE = dict(weights=29183, arch=25969)


def test_a_third_is_saved(run_tool, capsys):
    run_tool('checks/operations', '--rows', 1)
    head, _, convolutions, total = capsys.readouterr().out.splitlines()
    names, *numbers = (
        re.findall(r'\w+', line) for line in (head, convolutions, total)
    )
    assert names[1:] == list(BEFORE)
    assert numbers[0][0] == 'convolution' and numbers[1][0] == 'all'
    for found, before in zip(map(int, numbers[1][1:]), BEFORE.values()):
        assert before / 2 < found <= 2 / 3 * before


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
