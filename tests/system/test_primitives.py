"""How many kernels oneDNN keeps, which has to be set before torch computes."""

import os
import subprocess
import sys
from collections import Counter

import pytest
from helpers import ROOT

from hourglass.system.machine import bfloat16_instructions
from hourglass.system.primitives import CAPACITY, keep_primitives

# 1,100 shapes, more than oneDNN keeps by itself, twice.
PRODUCTS = """
import hourglass, torch
weight = torch.ones(64, 64, dtype=torch.bfloat16)
for _ in range(2):
    for rows in range(64, 1164):
        torch.ones(rows, 64, dtype=torch.bfloat16) @ weight
"""


@pytest.mark.parametrize("before", [None, "7"])
def test_what_the_user_has_set_stays(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CAPACITY, raising=False)
    if before is not None:
        monkeypatch.setenv(CAPACITY, before)
    keep_primitives()
    assert os.environ[CAPACITY] == (before or "8192")


@pytest.mark.skipif(not bfloat16_instructions(), reason="needs a CPU with instructions for bfloat16")
@pytest.mark.parametrize(("capacity", "generated"), [(None, 1100), ("1024", 2200)])
def test_onednn_keeps_the_shapes_of_a_corpus(capacity: str | None, generated: int) -> None:
    """Count what oneDNN says of itself."""
    environment = {name: value for name, value in os.environ.items() if name != CAPACITY}
    environment |= {"ONEDNN_VERBOSE": "profile_create", "PYTHONPATH": f"{ROOT / 'src'}"}
    environment |= {CAPACITY: capacity} if capacity else {}
    command = [sys.executable, "-c", PRODUCTS]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    kinds = Counter(line.split(",")[3] for line in shown.splitlines() if ",matmul," in line and ":cache_" in line)
    assert sum(kinds.values()) == 2200
    assert kinds["create:cache_miss"] == generated
