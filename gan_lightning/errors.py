"""The one exception that the command line shows without a traceback."""


class UserError(ValueError):
    """A user's mistake: the message names the key or the file, and the value. Exit code 2."""
