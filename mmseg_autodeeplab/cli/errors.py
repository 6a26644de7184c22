"""Users' mistakes, printed as one sentence."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UserError

_MISSING = 'check the paths in the config, or set them with --cfg-options'
_FULL = (
    'free some space; what was written before is complete, and a training '
    'goes on from its last checkpoint with --resume'
)
_WORKER = (
    'the system ended it, most often for memory; lower num_workers of the '
    'data loader or free memory (of /dev/shm, too), and go on with --resume'
)
# As PyTorch says it, which has no type for it.
_KILLED = re.compile(
    r'DataLoader worker \(pid.*\) (exited unexpectedly'
    r'|is killed by signal: (Killed|Bus error|Terminated))'
)
_DENIED = 'check who may write there, or give another path'
_WAYS_OUT = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _DENIED),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), _DENIED),
}


@contextmanager
def user_errors() -> Iterator[None]:
    """Print a user's mistake as one sentence and exit with status 1.

    A :class:`UserError` is one, a missing file, a full disk, what must not be
    written, and a worker of a data loader that the system killed; every other
    exception keeps its traceback.
    """
    try:
        yield
    except UserError as error:
        raise SystemExit(f'Error: {_sentence(error)}') from None
    except OSError as error:
        way_out = _WAYS_OUT.get(error.errno)
        if isinstance(error, FileNotFoundError):  # Of a worker: no errno.
            way_out = _MISSING
        if way_out is None:
            raise
        raise SystemExit(f'Error: {_sentence(error)}: {way_out}') from None
    except RuntimeError as error:
        if not _KILLED.match(str(error)):
            raise
        raise SystemExit(f'Error: {_sentence(error)}: {_WORKER}') from None


def _sentence(error):
    text = str(error)
    if 'Traceback (most recent call last)' in text:
        # From a worker of a data loader: "Error: " ends the type's name.
        text = text.strip().splitlines()[-1].partition('Error: ')[2]
    return ' '.join(text.split()).rstrip('.')
