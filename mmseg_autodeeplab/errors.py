"""The one exception that the tools print without a traceback."""


class UserError(ValueError):
    """A mistake in a user's config, file or data.

    The message is one sentence that says what is wrong, what was found and
    what to do. ``tools/*.py`` print it alone and exit with status 1.
    """
