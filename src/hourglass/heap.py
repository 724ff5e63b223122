"""What a process does with memory that it is done with for now: keep it.

A training step on a CPU takes and gives back hundreds of megabytes. The C library hands large pieces back to the system
at once, which clears every page again before the next step gets it: some 15,000 page faults and 40 ms of a step of 230.
"""

import ctypes
import functools
import sys

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
