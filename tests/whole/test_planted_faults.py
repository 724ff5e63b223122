"""The list of faults in planted_faults.py fits the sources."""

from collections import Counter

import pytest
from helpers import ROOT
from planted_faults import FAULTS, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_has_one_place(fault: Fault) -> None:
    assert (ROOT / fault.file).read_text().count(fault.old) == 1
    assert fault.old != fault.new
    for word in fault.tests.split():
        assert not word.startswith("tests/") or (ROOT / word).is_file()


def test_names_of_faults_are_unique() -> None:
    assert max(Counter(fault.name for fault in FAULTS).values()) == 1
