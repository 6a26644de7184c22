"""Files and archives that are whole, and JSON that everybody reads."""

import errno
import json
import math
import os
import stat
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Optional, TextIO, Union

try:
    import fcntl
except ImportError:  # Of Windows.
    fcntl = None

from .errors import UserError

# Of file systems, most often of networks.
NO_LOCKS = errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP


def write_atomically(file: str, content: Union[str, bytes]) -> None:
    """Write a file aside, flush it, and rename it into place.

    Its folder is made; text becomes UTF-8. A process that is killed in between
    leaves ``FILE.*.tmp`` behind, which nothing reads.

    Raises:
        OSError: The former file stays, and the error has its name.
    """
    if isinstance(content, str):
        content = content.encode()
    file = os.path.abspath(file)
    os.makedirs(os.path.dirname(file), exist_ok=True)
    aside = f'{file}.{uuid.uuid4().hex[:8]}.tmp'
    try:
        with open(aside, 'xb') as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(aside, file)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(aside)
        if isinstance(error, OSError):
            error.filename = file
        raise


def lock(file: str, wait: bool = True) -> Optional[int]:
    """Lock a file; returns its descriptor, or None where another holds it.

    Children that are given the descriptor hold the lock as well.

    Raises:
        UserError: The file system has no locks.
    """
    folder = os.path.dirname(os.path.abspath(file))
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        how = 0 if wait else fcntl.LOCK_NB
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        if error.errno not in NO_LOCKS:
            raise
        raise UserError(
            f'the file system of {folder} has no locks ({error.strerror}), '
            'by which processes share it: put the work directory on another'
        ) from error
    return descriptor


@contextmanager
def locked(file: str) -> Iterator[None]:
    """Wait for the lock of a file, and hold it."""
    descriptor = lock(file)
    try:
        yield
    finally:
        os.close(descriptor)


def to_json(value: Any, **options: Any) -> str:
    """Write anything as valid JSON; the options are those of ``json.dumps``.

    Arrays and tensors become lists, a number that is not finite becomes null,
    and what JSON has no word for becomes its text.
    """
    return json.dumps(_plain(value), allow_nan=False, **options)


def _plain(value):
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if hasattr(value, 'tolist'):
        return _plain(value.tolist())
    return str(value)


def check_archive(file: str) -> None:
    """See that an archive, as torch writes checkpoints, is what was written.

    Each of its records has a checksum, CRC-32, which torch does not look at.
    Other formats have none and pass, as does an archive that was written by
    ``torch.serialization.set_crc32_options(False)``.

    Raises:
        Exception: Of what kind, ``zipfile`` leaves open.
    """
    with open(file, 'rb') as f:
        if f.read(4) != b'PK\3\4':
            return
        with zipfile.ZipFile(f) as archive:
            records = archive.infolist()
            if not any(record.CRC for record in records):
                return
            broken = archive.testzip()
            for record in records:
                # What is marked as a folder, torch does not read at all: its
                # tensor would be whatever the memory holds.
                if record.external_attr & 0x10 and not record.is_dir():
                    broken = record.filename
    if broken:
        raise zipfile.BadZipFile(f'{broken} is not what was written')


def open_text(file: str, errors: str = 'strict') -> TextIO:
    """Open a file to read it as UTF-8.

    Raises:
        OSError: It cannot be read, or would keep who reads it waiting.
    """
    mode = os.stat(file).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, 'Not a regular file', file)
    return open(file, encoding='utf-8', errors=errors)
