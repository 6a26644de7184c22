"""Files that are complete or absent."""

import os
import tempfile
from typing import Union


def write_atomically(file: str, content: Union[str, bytes]) -> None:
    """Write a file aside, flush it, and rename it into place.

    A process that is killed in between leaves ``FILE.*.tmp`` behind, which
    nothing reads; it may be deleted.

    Args:
        file (str): Its folder is made if it does not exist.
        content (str | bytes): The whole content; text becomes UTF-8.

    Raises:
        OSError: It cannot be written; the former file stays, and the error
            has its name.
    """
    if isinstance(content, str):
        content = content.encode()
    folder, name = os.path.split(os.path.abspath(file))
    os.makedirs(folder, exist_ok=True)
    handle, aside = tempfile.mkstemp('.tmp', f'{name}.', folder)
    try:
        with open(handle, 'wb') as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        # mkstemp keeps the file to its owner; give it what open() gives.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(aside, 0o666 & ~umask)
        os.replace(aside, file)
    except BaseException as error:
        os.unlink(aside)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = os.fspath(file)
        raise
