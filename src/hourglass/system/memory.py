"""Memory: keep what a training step frees, and recognise the errors that mean "out of memory"."""

import ctypes
import functools
import sys


def short_of_memory(kind: str, message: str) -> str | None:
    """Return in one line what is said of memory where that is what an error means; torch has no one error for it.

    Args:
        kind: the name of its class: MemoryError, torch's OutOfMemoryError, ...
        message: its own.
    """
    if not kind.endswith("MemoryError") and "can't allocate memory" not in message:
        return None
    return f"out of memory ({(message.strip().splitlines() or ['no more is left'])[0][:200]})"


# Of glibc's malloc.h: from how many bytes a piece is mapped by itself; how many free ones at the top are kept.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


KEPT = 2**30


@functools.cache
def keep_heap() -> None:
    """Keep pieces of up to a gigabyte for what comes next, from now on; where the C library is glibc."""
    library = _glibc()
    if library is None:
        return
    if not library.mallopt(M_MMAP_THRESHOLD, KEPT):
        library.mallopt(M_MMAP_THRESHOLD, KEPT // 32)  # The most that an older glibc takes.
    library.mallopt(M_TRIM_THRESHOLD, KEPT)


def trim_heap() -> None:
    """Give back what is kept, so that memory can be measured; where the C library is glibc."""
    if library := _glibc():
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
