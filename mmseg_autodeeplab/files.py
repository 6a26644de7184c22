"""Files that are complete or absent."""

import os
import uuid
from contextlib import suppress
from typing import Union


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
