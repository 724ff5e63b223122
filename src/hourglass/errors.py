"""The one kind of error that a user can mend, and how it is shown."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake that the user can mend (a bad path, line, option): shown as one line, without a traceback.

    The message names the file and line number, or the option, and says what to do.
    """


def arguments(*names: str) -> list[str]:
    """Return the words on the command line, one for each name.

    Raises:
        UserError: there are more or fewer.
    """
    words = sys.argv[1:]
    if len(words) != len(names):
        raise UserError(f"usage: python {sys.argv[0]} {' '.join(names)}")
    return words


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Show the program's log on standard error, and end it in one line where the user can mend what went wrong."""
    log = logging.getLogger("hourglass")
    if not log.handlers:
        log.addHandler(logging.StreamHandler(sys.stderr))
        log.setLevel(logging.INFO)
        log.propagate = False
    try:
        yield
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
