"""Alphas and betas over time, and files of which a part is missing."""

import numpy as np
import pytest
from search_files import parameters

from mmseg_autodeeplab.search.history import (
    append_record,
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


def test_lines_that_are_no_objects(tmp_path):
    file = tmp_path / 'lines'
    file.write_text('{"a": 1}\n\n[1]\n3\n{"b"\n{"c": 2}\n')
    assert read_json_lines(str(file)) == [dict(a=1), dict(c=2)]
    assert read_json_lines(str(tmp_path / 'none')) == []
