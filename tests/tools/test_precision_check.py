"""The check of precision tells roundings from what is more than that."""

import re

import torch

from mmseg_autodeeplab.models.layers import CELLS

SMALL = ('--layers', 3, '--blocks', 1, '--filter-multiplier', 2)
ROW = re.compile(
    r'\| +0 \| +(.+?) +' + r'\| +([\d.e-]+) ' * 3 + r'\| +(\d+) of'
)


def rows(run_tool, capsys):
    run_tool('checks/precision', *SMALL, '--bound', 1e-3)
    return {
        name: [float(cell) for cell in cells]
        for name, *cells in ROW.findall(capsys.readouterr().out)
    }


def test_a_shallow_network(run_tool, capsys):
    found = rows(run_tool, capsys)
    assert len(found) == 4
    for outputs, median, worst, above in found.values():
        assert 0 < outputs < 1e-5 and 0 < median < worst < 1e-3
        assert above == 0


def test_a_form_that_is_not_the_same(run_tool, capsys, monkeypatch):
    cell = CELLS['fused']
    forward = cell.forward
    monkeypatch.setattr(
        cell,
        'forward',
        lambda self, *args: 1.01 * forward(self, *args),
    )
    found = rows(run_tool, capsys)
    for name, (outputs, median, *_, above) in found.items():
        wrong = name.startswith('fused')
        assert (outputs > 1e-3) == (median > 1e-3) == (above > 0) == wrong
    assert torch.backends.mkldnn.enabled
