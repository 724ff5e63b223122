"""bench.py cells: every cell beside the LSTM, in turn."""

import dataclasses
import json

import pytest
from helpers import bench_settings

from hourglass.bench import cells
from hourglass.bench.cells import measure_cells
from hourglass.bench.measurements import CELL
from hourglass.models.cells import CELLS

SIZES = (
    *("encoder.hidden_size=16", "encoder.embedding_size=4", "encoder.summary_size=8", "tokenizer.vocabulary_size=40"),
    *("decoder.hidden_size=8", "decoder.embedding_size=4", "decoder.readout_size=4", "trainer.batch_tokens=12"),
)


def test_a_step_of_each_cell_is_held_against_the_lstms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rounds are compared one by one: the k-th measurement of each round takes k seconds, times the round."""
    seconds = iter([turn * place for turn in (1, 2, 4) for place in range(1, len(CELLS) + 1)])

    def median_seconds(step: object, duration: float) -> int:
        step()  # type: ignore[operator]
        return next(seconds)

    monkeypatch.setattr(cells, "median_seconds", median_seconds)
    settings = dataclasses.replace(bench_settings(), default_length=3, rounds=3)
    settings = dataclasses.replace(settings, default_variants={"default settings": " ".join(SIZES)})
    measure_cells(settings)
    lines = {line["what"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert len(lines) == 2 * len(CELLS) - 1
    order = ["lstm", *(name for name in CELLS if name != "lstm")]
    tokens = lines[f"{CELL}lstm"]["all"][0]
    for place, name in enumerate(order, 1):
        line = lines[f"{CELL}{name}"]
        assert line["all"] == pytest.approx([tokens / place, tokens / place / 2, tokens / place / 4])
        assert line["state_numbers"] == CELLS[name].state_size(8)
        if name != "lstm":
            assert lines[f"{CELL}{name} over lstm"]["all"] == [place] * 3
    assert (
        lines[f"{CELL}min_gru"]["parameters"] < lines[f"{CELL}gru"]["parameters"] < lines[f"{CELL}lstm"]["parameters"]
    )
