"""Keep freed memory in the process, where the C library is glibc.

A training step frees hundreds of megabytes. By default glibc returns them to the system, which clears every page of
them again for the next step.
"""

import ctypes
import functools
import sys

# Parameters of mallopt (glibc's malloc.h): how many free bytes at the top of the heap are kept, and from how many bytes
# on an allocation is a memory map of its own, which is always returned.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 2**30  # bytes


@functools.cache
def keep_heap() -> None:
    """Keep freed allocations of up to a gigabyte for later ones, from now on."""
    library = _glibc()
    if library is None:
        return
    if not library.mallopt(M_MMAP_THRESHOLD, KEPT):
        library.mallopt(M_MMAP_THRESHOLD, KEPT // 32)  # The maximum of older versions of glibc.
    library.mallopt(M_TRIM_THRESHOLD, KEPT)


def trim_heap() -> None:
    """Return free memory to the system, so that the memory in use can be measured."""
    if library := _glibc():
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
