"""Files that are complete or absent."""

import os
import tempfile
from typing import Union


def write_atomically(file: str, content: Union[str, bytes]) -> None:
    """Write a file aside, flush it, and rename it into place.

    Args:
        file (str): Its folder is made if it does not exist.
        content (str | bytes): The whole content; text becomes UTF-8.
    """
    if isinstance(content, str):
        content = content.encode()
    folder = os.path.dirname(os.path.abspath(file))
    os.makedirs(folder, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=folder, suffix='.tmp')
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
    except BaseException:
        os.unlink(aside)
        raise
