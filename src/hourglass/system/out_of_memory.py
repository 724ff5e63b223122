"""Recognise the errors that mean "out of memory": torch has no one class for them."""


def memory_shortage(kind: str, message: str) -> str | None:
    """Return a one-line description of an error that means "out of memory", None for any other.

    Args:
        kind: name of the error's class: MemoryError, torch's OutOfMemoryError, ...
        message: of the error.
    """
    if not kind.endswith("MemoryError") and "can't allocate memory" not in message:
        return None
    return f"out of memory ({(message.strip().splitlines() or ['no more is left'])[0][:200]})"
