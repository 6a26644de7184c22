import errno
import os

import pytest

from mmseg_autodeeplab.files import write_atomically


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
