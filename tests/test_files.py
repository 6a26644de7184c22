import errno
import io
import json
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mmseg_autodeeplab.errors import UserError
from mmseg_autodeeplab.files import (
    check_archive,
    lock,
    to_json,
    write_atomically,
)

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


@pytest.mark.parametrize('name', ['ENOSYS', 'ENOLCK', 'EOPNOTSUPP'])
def test_a_file_system_without_locks_is_a_sentence(
    tmp_path, monkeypatch, name
):
    def flock(descriptor, how):
        number = getattr(errno, name)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr('fcntl.flock', flock)
    with pytest.raises(UserError, match='has no locks .*: put the work') as e:
        lock(tmp_path / 'new' / 'lock')
    assert '\n' not in str(e.value) and str(tmp_path / 'new') in str(e.value)


def test_another_error_of_a_lock_stays_what_it_is(tmp_path, monkeypatch):
    def flock(descriptor, how):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr('fcntl.flock', flock)
    with pytest.raises(OSError) as error:
        lock(tmp_path / 'lock')
    assert error.value.errno == errno.EIO


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
        # Checks write what they damage, or before the package is there.
        if 'json.dump' in file.read_text() and file.parent.name != 'checks'
    ]
    assert files == [ROOT / 'mmseg_autodeeplab' / 'files.py']


@pytest.fixture(scope='module')
def archive():
    """Bytes of what torch saves, as MMEngine does."""
    torch.manual_seed(0)
    buffer = io.BytesIO()
    torch.save(dict(a=torch.randn(3), b=dict(c=torch.randn(2), d=1)), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    'bit',
    # Bit 4 is among those that torch itself misreads.
    [pytest.param(i, marks=[pytest.mark.slow] * (i != 4)) for i in range(8)],
)
def test_a_flipped_bit_is_seen_or_changes_nothing(tmp_path, archive, bit):
    """In every byte: of tensors, pickle, names, sizes, padding."""
    file = tmp_path / 'a.pth'
    expected = torch.load(io.BytesIO(archive))
    seen = 0
    for at in range(len(archive)):
        damaged = bytearray(archive)
        damaged[at] ^= 1 << bit
        file.write_bytes(damaged)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # Of names that are twice.
                check_archive(file)
                found = torch.load(file)
        except Exception:  # Of any kind: the reader says so itself.
            seen += 1
            continue
        assert found['a'].equal(expected['a']), at
        assert found['b']['c'].equal(expected['b']['c']), at
        assert found['b']['d'] == 1, at
    assert seen > len(archive) / 4


@pytest.mark.parametrize('kind', ['legacy', 'pickle', 'no checksums', 'zip'])
def test_what_has_no_checksum_of_torch_passes(tmp_path, kind):
    file = tmp_path / 'a.pth'
    if kind == 'legacy':
        torch.save([1], file, _use_new_zipfile_serialization=False)
    elif kind == 'pickle':
        file.write_bytes(pickle.dumps([1]))
    elif kind == 'zip':
        with zipfile.ZipFile(file, 'w') as new:
            new.mkdir('folder')
            new.writestr('folder/a', 'b')
    else:
        torch.serialization.set_crc32_options(False)
        try:
            torch.save([1], file)
        finally:
            torch.serialization.set_crc32_options(True)
        assert zipfile.ZipFile(file).testzip()
    check_archive(file)
