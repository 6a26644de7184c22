"""Users' mistakes, and what becomes of files, printed as one sentence."""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Unavailable, UserError

_GOES_ON = (
    'what was written before is complete, and a training goes on from its '
    'last checkpoint with --resume'
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
# Not every system has every one of these names.
_WAYS_OUT = {
    getattr(errno, name, None): way_out
    for names, way_out in (
        (
            'ENOENT',
            'check the paths in the config, or set them with --cfg-options',
        ),
        ('ENOSPC EDQUOT EFBIG', f'free some space; {_GOES_ON}'),
        (
            'EACCES EPERM EROFS EEXIST ENOTDIR',
            'check who may write there, or give another path',
        ),
        (
            'EISDIR ELOOP ENAMETOOLONG EXDEV EBUSY ETXTBSY ENOTEMPTY',
            'check that path, or give another one',
        ),
        (
            'EIO ESTALE ENXIO ENODEV EREMOTEIO ENOMEDIUM EUCLEAN EBADMSG '
            'ETIMEDOUT EHOSTDOWN ENOTCONN ESHUTDOWN',
            f'look at the disk, or at the network to it; {_GOES_ON}',
        ),
        ('EMFILE ENFILE', 'allow more open files, by ulimit -n'),
    )
    for name in names.split()
}


@contextmanager
def user_errors() -> Iterator[None]:
    """Print a user's mistake as one sentence, and exit with its status.

    A :class:`UserError` is one, what a file system refuses (a missing file, a
    full disk, a broken one), and a worker of a data loader that the system
    killed. Every other exception keeps its traceback.
    """
    try:
        yield
    except UserError as error:
        raise _exit(_sentence(error), error.status) from None
    except OSError as error:
        way_out = _way_out(error)
        if way_out is None:
            raise
        sentence = f'{_sentence(error)}: {way_out}'
        raise _exit(sentence, Unavailable.status) from None
    except RuntimeError as error:
        if not _KILLED.match(str(error)):
            raise
        raise SystemExit(f'Error: {_sentence(error)}: {_WORKER}') from None


def _exit(sentence, status):
    """Python prints what a SystemExit has, but with the status 1 alone."""
    if status == 1:
        return SystemExit(f'Error: {sentence}')
    print(f'Error: {sentence}', file=sys.stderr)
    return SystemExit(status)


def _way_out(error):
    number = error.errno
    if number is None:  # Of a worker, of which the text alone comes.
        found = re.search(r'\[Errno (\d+)\]', _sentence(error))
        missing = isinstance(error, FileNotFoundError)
        number = int(found[1]) if found else errno.ENOENT if missing else 0
    return _WAYS_OUT.get(number)


def _sentence(error):
    text = str(error)
    if 'Traceback (most recent call last)' in text:
        # From a worker of a data loader: "Error: " ends the type's name.
        text = text.strip().splitlines()[-1].partition('Error: ')[2]
    return ' '.join(text.split()).rstrip('.')
