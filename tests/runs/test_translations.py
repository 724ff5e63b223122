"""The file of translations: with and without further references, and what is wrong with it."""

from pathlib import Path

import pytest

from hourglass.errors import UserError
from hourglass.runs.translations import Translation, read_translations, write_translations

PLAIN = [Translation("1", "a b", "c", "d"), Translation("2", "e", "f", "")]
FURTHER = [*PLAIN, Translation("3", "g", "h", "i", ('K "AE" T', "ü"))]


@pytest.mark.parametrize(("rows", "fields"), [(PLAIN, 4), (FURTHER, 5)])
def test_what_is_written_is_read(rows: list[Translation], fields: int, tmp_path: Path) -> None:
    file = tmp_path / "test.tsv"
    write_translations(file, rows)
    assert read_translations(file) == rows
    assert {line.count("\t") for line in file.read_text().splitlines()} == {fields - 1}
    assert read_translations(file)[-1].references == (rows[-1].reference, *rows[-1].alternatives)


@pytest.mark.parametrize("text", ['["a"', '"a"', "[1]", "x", "[" * 100_000])
def test_further_references_that_are_no_list_of_texts_are_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "test.tsv"
    write_translations(file, FURTHER)
    file.write_text(file.read_text().replace('["K \\"AE\\" T", "ü"]', text))
    with pytest.raises(UserError, match=r"test.tsv:4: its further references are no JSON list of texts$"):
        read_translations(file)
