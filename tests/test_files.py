import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mmseg_autodeeplab.files import to_json, write_atomically

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def full_disk(monkeypatch):
    def fsync(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', fsync)


def test_what_is_written_has_the_rights_of_any_other_file(tmp_path):
    for name, content in (('a', 'Straße'), ('b', 'Straße'.encode())):
        write_atomically(tmp_path / 'new' / name, content)
        assert (tmp_path / 'new' / name).read_text('utf-8') == 'Straße'
    (tmp_path / 'plain').touch()
    assert (tmp_path / 'new' / 'a').stat().st_mode == (
        (tmp_path / 'plain').stat().st_mode
    )


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    file = tmp_path / 'a.json'
    seen = []
    fsync, replace = os.fsync, os.replace

    def flushed(handle):
        (aside,) = tmp_path.iterdir()
        assert aside.name.startswith('a.json.')
        assert aside.name.endswith('.tmp')
        seen.append(aside.read_text())
        fsync(handle)

    def renamed(source, target):
        assert seen == ['content']
        seen.append('renamed')
        replace(source, target)

    monkeypatch.setattr(os, 'fsync', flushed)
    monkeypatch.setattr(os, 'replace', renamed)
    write_atomically(file, 'content')
    assert seen == ['content', 'renamed']
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_leaves_the_former_file_alone(tmp_path, full_disk):
    file = tmp_path / 'a.json'
    file.write_text('former')
    with pytest.raises(OSError) as error:
        write_atomically(file, 'new')
    assert error.value.errno == errno.ENOSPC
    assert str(file) in str(error.value)
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_text() == 'former'


NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    'value, expected',
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.1, 0.1),
        (NAN, None),
        (-INF, None),
        ('ä', 'ä'),
        ((1, [NAN, 'a']), [1, [None, 'a']]),
        ({2}, [2]),
        ({'a': {0: INF}}, {'a': {'0': None}}),
        (np.float64(0.1), 0.1),
        (np.float64(NAN), None),
        (np.float32(0.5), 0.5),
        (np.float16(INF), None),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1.5, NAN]]), [[1.5, None]]),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (torch.tensor([1.0, INF]), [1.0, None]),
        (torch.tensor([NAN], dtype=torch.bfloat16), [None]),
        (Path('a/b'), 'a/b'),
        (1 + 2j, '(1+2j)'),
    ],
    ids=repr,
)
def test_anything_becomes_valid_json(value, expected):
    def refuse(constant):
        pytest.fail(f'{constant} is no JSON')

    for indent in (None, 2):
        text = to_json(value, indent=indent)
        found = json.loads(text, parse_constant=refuse)
        assert (found, type(found)) == (expected, type(expected))


def test_all_json_is_written_by_one_function():
    files = [
        file
        for folder in ('mmseg_autodeeplab', 'tools')
        for file in (ROOT / folder).rglob('*.py')
        if 'json.dump' in file.read_text()
    ]
    assert files == [ROOT / 'mmseg_autodeeplab' / 'files.py']
