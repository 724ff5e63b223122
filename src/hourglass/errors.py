"""The one kind of error that a user can mend."""


class UserError(Exception):
    """A mistake that the user can mend (a bad path, line, option): shown as one line, without a traceback.

    The message names the file and line number, or the option, and says what to do.
    """
