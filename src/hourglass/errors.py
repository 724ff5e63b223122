"""Errors that a user can correct, each with its exit status.

1: any error. 3: the training diverged. 4: out of memory. A stopped run exits with 130 (Ctrl-C) or 143 (SIGTERM),
see training/stopping.py; after kill -9 the shell reports 137.
"""


class UserError(Exception):
    """A mistake that the user can correct, such as a wrong path or option: printed as one line, without a traceback.

    The message names the file and line, or the option, and says what to do.

    Attributes:
        status: exit status of the process.
    """

    status = 1


class DivergedError(UserError):
    """The loss is infinite or not a number."""

    status = 3


class OutOfMemoryError(UserError):
    """The model or a batch is too large for the device."""

    status = 4


class BrokenOffError(UserError):
    """A training failed for a reason outside its settings, such as a full disk: it can be resumed afterwards."""


class MachineLostError(BrokenOffError):
    """The processes of a training cannot go on together; all that are left have this error."""
