"""Files that are complete or absent."""

import os
import tempfile


def write_atomically(file: str, text: str) -> None:
    """Write a text file aside, flush it, and rename it into place.

    Args:
        file (str): Its folder is made if it does not exist.
        text (str): The whole content.
    """
    folder = os.path.dirname(os.path.abspath(file))
    os.makedirs(folder, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=folder, suffix='.tmp')
    try:
        with open(handle, 'w', encoding='utf-8') as f:
            f.write(text)
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
