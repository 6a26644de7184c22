"""Users' mistakes, printed as one sentence."""

import errno
from contextlib import contextmanager

from ..errors import UserError

# What to do about errors of the file system.
_FULL = (
    'free some space; what was written before is complete, and a training '
    'goes on from its last checkpoint with --resume'
)
_DENIED = 'check who may write there, or give another path'
_WAYS_OUT = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: _DENIED,
    errno.EEXIST: _DENIED,
    errno.ENOTDIR: _DENIED,
}


@contextmanager
def user_errors():
    """Print a user's mistake as one sentence and exit with status 1.

    :class:`UserError` and ``FileNotFoundError`` are such, a full disk and
    what must not be written; every other exception keeps its traceback. Works
    as a decorator too.
    """
    try:
        yield
    except UserError as error:
        raise SystemExit(f'Error: {_sentence(error)}') from None
    except FileNotFoundError as error:
        raise SystemExit(
            f'Error: {_sentence(error)}: check the paths in the config, or '
            'set them with --cfg-options'
        ) from None
    except OSError as error:
        if error.errno not in _WAYS_OUT:
            raise
        raise SystemExit(
            f'Error: {_sentence(error)}: {_WAYS_OUT[error.errno]}'
        ) from None


def _sentence(error):
    text = str(error)
    if 'Traceback (most recent call last)' in text:
        # From a worker of a data loader: "Error: " ends the type's name.
        text = text.strip().splitlines()[-1].partition('Error: ')[2]
    return ' '.join(text.split()).rstrip('.')
