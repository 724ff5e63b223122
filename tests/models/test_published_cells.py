"""Cells against published packages, whose results published_cells.py has recorded. Shapes as there."""

import json
from typing import Any

import pytest
import torch
from published_cells import PUBLISHED, RECORD, SIZES, B, H, inputs_of, results
from torch import Tensor

from hourglass.models.cells import CELLS, Cell
from hourglass.models.parallel_cells import MatrixCell

OPEN = 1e4  # The sigmoid of it is 1.


def cell_of(name: str) -> Any:
    """Return the cell alone, as the packages compute it: no norm and no gate behind what a memory's query reads."""
    cell: Any = CELLS[name](H, H).double()
    if isinstance(cell, MatrixCell):
        cell.chunk = 4  # Two chunks, of which the second is not full.
        if name != "mlstm":
            setattr(cell, "finish", lambda read, projected: read.flatten(-2))  # noqa: B010 (mypy)
    return cell


def complete(name: str, projected: Tensor, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return W x + b with the rows that are no part of the package's function, and the state with h."""
    *others, i, f = projected.split(SIZES[name][0], -1)
    if name == "mlstm":
        projected = torch.cat([*others, torch.full_like(others[0], OPEN), i, f], -1)
    if name == "linear_attention":
        projected = torch.cat([projected, torch.zeros_like(f)], -1)
    if name == "selective_ssm":
        memory = (projected.new_zeros(B, *CELLS[name].state_shapes(H)[1]),)
    if not name.startswith("min_"):
        memory = (projected.new_zeros(B, H), *memory)
    return projected, memory


@pytest.mark.parametrize("form", ["whole sequence", "steps"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_cell_is_that_of_a_published_package(name: str, form: str) -> None:
    """Outputs, final memory, and their gradients. The packages compute in float32 in part."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))[name]
    cell = cell_of(name)

    def compute(projected: Tensor, *memory: Tensor) -> list[Tensor]:
        run = Cell.run if form == "steps" else type(cell).run
        outputs, (h, *final) = run(cell, *complete(name, projected, memory))
        return [outputs, *(final or [h])][: len(recorded["values"])]

    for kind, ours in results(compute, inputs_of(name)).items():
        theirs = [
            torch.tensor(part, dtype=torch.double).view_as(our) for part, our in zip(recorded[kind], ours, strict=True)
        ]
        torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=2e-6)


def test_the_record_is_that_of_the_script() -> None:
    """A cell that no package has is held against its equations alone, in test_recurrent.py."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    assert list(recorded) == list(PUBLISHED)
    assert {name: (entry["package"].split()[0], entry["function"]) for name, entry in recorded.items()} == {
        name: published[:2] for name, published in PUBLISHED.items()
    }
