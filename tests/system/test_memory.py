"""Freed memory that is kept for later allocations, and when garbage is collected."""

import gc
import os
import platform
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT, quick_python

from hourglass.system.memory import importing_libraries

PROGRAM = """
import resource, sys
import torch
from hourglass.system.memory import keep_heap, trim_heap
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    keep_heap()
pieces = []
for round in range(10):
    if round == 5:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del pieces
    pieces = [torch.ones(2**23) for _ in range(4)]  # 32 MiB each.
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
del pieces
trim_heap()
pages = int(open("/proc/self/statm").read().split()[1])
print(faults, pages)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_kept_memory_is_reused_and_can_be_returned(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    printed_numbers = {}
    for how in ("plain", "kept"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        command = [quick_python(), str(tmp_path / "program.py"), how]
        printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        printed_numbers[how] = [int(number) for number in printed.split()]
    (plain, pages_left), (kept, pages_kept) = printed_numbers["plain"], printed_numbers["kept"]
    assert kept < plain / 10
    assert pages_kept < pages_left + 2**23 * 4 // os.sysconf("SC_PAGESIZE")  # At most one of the four pieces more.


def test_collection_pauses_while_libraries_are_imported_and_goes_on_after_an_error() -> None:
    def import_nothing() -> None:
        with importing_libraries():
            assert not gc.isenabled()
            raise ImportError

    frozen = gc.get_freeze_count()
    library: list[list[int]] = [[] for _ in range(100)]
    with pytest.raises(ImportError):
        import_nothing()
    assert gc.isenabled()
    assert gc.get_freeze_count() >= frozen + len(library)
    gc.unfreeze()
