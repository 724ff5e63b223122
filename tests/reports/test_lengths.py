"""The picture of output lengths counts words as the scores do."""

import json
from pathlib import Path
from typing import Any

import pytest

from hourglass.reports import pictures
from hourglass.runs.folder import RunFolder
from hourglass.runs.translations import write_translations


@pytest.mark.parametrize(("language", "words"), [("zh", ([7, 5], [8, 2])), ("en", ([1, 1], [2, 1]))])
def test_lengths_of_a_target_without_spaces_are_in_characters(
    language: str, words: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    drawn: list[Any] = []
    run.metrics.write_text(json.dumps({"test": {"buckets": []}, "corpus": {"target": language}}))
    write_translations(
        run.translations, [("1", "a b", "跑房人水我树们", "跑房人水 我树们。"), ("2", "c", "地天跑我吃", "地天")]
    )
    original = pictures.draw_points

    def draw_points(*sides: Any, **labels: Any) -> Any:
        drawn.append(sides)
        return original(*sides, **labels)

    monkeypatch.setattr(pictures, "draw_points", draw_points)
    pictures.draw_picture(run, "lengths")
    assert drawn == [words]
