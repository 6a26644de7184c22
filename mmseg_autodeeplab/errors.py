"""The one exception that the tools print without a traceback."""

import textwrap


class UserError(ValueError):
    """A mistake in a user's config, file or data.

    The message is one sentence that says what is wrong, what was found and
    what to do. ``tools/*.py`` print it alone and exit with its status.
    """

    status = 1


class Unavailable(UserError):
    """A place that cannot be used, such as a full disk, for whatever it is."""

    status = 74  # EX_IOERR of sysexits.h


class Occupied(Unavailable):
    """A place where another process is at work, so that waiting may do."""

    status = 75  # EX_TEMPFAIL


def one_line(error: BaseException) -> str:
    """Type and text of another's exception, short enough for a sentence."""
    text = f'{type(error).__name__}: {error}'
    return textwrap.shorten(text, 200, placeholder=' ...')
