"""Files that are complete or absent."""

import errno
import os
import stat
import uuid
from contextlib import suppress
from typing import TextIO, Union


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


def open_text(file: str, errors: str = 'strict') -> TextIO:
    """Open a file to read it as UTF-8.

    Raises:
        OSError: It cannot be read, or would keep who reads it waiting.
    """
    mode = os.stat(file).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, 'Not a regular file', file)
    return open(file, encoding='utf-8', errors=errors)
