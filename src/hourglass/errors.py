"""The errors that a user can correct. The exit status tells them apart.

1: an error. 3: the training diverged. 4: out of memory. A run that is stopped ends with 130 (Ctrl-C) or 143 (SIGTERM),
see training/stopping.py. After kill -9 the shell shows 137.
"""


class UserError(Exception):
    """A mistake that the user can mend (a bad path, line, option): shown as one line, without a traceback.

    The message names the file and line number, or the option, and says what to do.
    """

    status = 1


class DivergedError(UserError):
    """The loss is no number any more."""

    status = 3


class OutOfMemoryError(UserError):
    """The model or a batch is too large for the device."""

    status = 4


class BrokenOffError(UserError):
    """The world around a training failed it, not its settings: once that is mended, the run can go on."""
