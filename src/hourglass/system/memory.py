"""When memory is freed: by the C library (glibc), and by Python's garbage collection.

A training step frees hundreds of megabytes. By default glibc returns them to the system, which clears every page of
them again for the next step.
"""

import ctypes
import functools
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def importing_libraries() -> Iterator[None]:
    """Pause garbage collection, and leave the objects that exist afterwards out of all later collections.

    Importing Lightning and MLflow makes a million objects that live as long as the process. Searching them for garbage
    again and again takes a third of the time of their import, and seconds at the end of the process.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
