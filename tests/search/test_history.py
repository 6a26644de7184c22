"""Alphas and betas over time, and files of which a part is missing."""

import os

import numpy as np
import pytest
from search_files import parameters

from mmseg_autodeeplab.arch import AutoDeepLabArchitecture
from mmseg_autodeeplab.search.history import (
    append_record,
    count_changes,
    read_history,
    read_json_lines,
)


@pytest.mark.parametrize('cut', [1, 2, 100])
def test_a_torn_history_goes_on(search_dir, cut):
    file = search_dir / 'arch_history.jsonl'
    file.write_bytes(file.read_bytes()[:-cut])
    whole = [0, 15, 30] if cut == 1 else [0, 15, 30, 45]
    found = read_history(str(search_dir))
    assert [record.iteration for record in found] == whole
    append_record(search_dir, 20, *parameters(20))
    found = read_history(str(search_dir))
    assert [record.iteration for record in found] == [0, 15, 20]
    np.testing.assert_allclose(found[-1].betas, parameters(20)[1], atol=1e-8)


def test_lines_that_are_no_records(search_dir):
    with open(search_dir / 'arch_history.jsonl', 'a') as f:
        f.write('{"iteration": 60}\n[60]\n')
    found = read_history(str(search_dir))
    assert [record.iteration for record in found] == [0, 15, 30]


def test_lines_that_are_no_objects(tmp_path):
    file = tmp_path / 'lines'
    file.write_text('{"a": 1}\n\n[1]\n3\n{"b"\n{"c": 2}\n')
    assert read_json_lines(str(file)) == [dict(a=1), dict(c=2)]
    assert read_json_lines(str(tmp_path / 'none')) == []


def test_lines_that_cannot_be_read(tmp_path):
    for make in (os.mkfifo, os.mkdir):
        make(tmp_path / make.__name__)
        with pytest.raises(OSError):
            read_json_lines(str(tmp_path / make.__name__))


def architecture(ops, inputs=(0, 1), path=(4, 8, 8)):
    pair = [dict(input=i, op=op) for i, op in zip(inputs, ops)]
    return AutoDeepLabArchitecture([pair], path)


@pytest.mark.parametrize(
    'after, expected',
    [
        (architecture(('skip_connect', 'sep_conv_3x3')), (0, 0)),
        # The order of a pair is that of strength, and no choice.
        (architecture(('sep_conv_3x3', 'skip_connect'), (1, 0)), (0, 0)),
        (architecture(('sep_conv_3x3', 'skip_connect')), (2, 0)),
        (architecture(('skip_connect', 'sep_conv_5x5')), (1, 0)),
        (architecture(('skip_connect', 'skip_connect'), (0, 0)), (1, 0)),
        (
            architecture(('skip_connect', 'sep_conv_3x3'), path=(4, 4, 8)),
            (0, 1),
        ),
    ],
)
def test_changes(after, expected):
    before = architecture(('skip_connect', 'sep_conv_3x3'))
    assert count_changes(before, after) == expected
