"""Arrays in files: archives of numpy, written whole or not at all, and read without unpickling any object."""

import io
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hourglass.errors import UserError
from hourglass.system.files import write_whole

# What numpy and zipfile raise at files that are damaged or encrypted, or hold what they cannot read.
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as one compressed file, the same to the byte for the same arrays."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_whole(file, content.getvalue())


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` has written.

    Raises:
        UserError: the file is missing or damaged, or holds anything but arrays of numbers.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    # AttributeError: a single array, which is no archive.
    except (*UNREADABLE, AttributeError) as error:
        raise UserError(f"{file}: not a whole archive of arrays ({error})") from None
