"""Cached folders exist whole or not at all."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hourglass.errors import UserError
from hourglass.system.cache import fill_cache


def writer(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "top").write_text(text)
        (folder / "deep" / "leaf").write_text(text)

    return write


def refuse(folder: Path) -> None:
    raise AssertionError("built again")


def test_a_complete_folder_is_not_written_again(tmp_path: Path) -> None:
    folder = fill_cache(tmp_path, "kind", "name", writer("one"))
    assert fill_cache(tmp_path, "kind", "name", refuse) == folder == tmp_path / "kind" / "name"
    assert (folder / "deep" / "leaf").read_text() == "one"


@pytest.mark.parametrize("lost", ["top", "deep/leaf", "files.json"])
def test_an_incomplete_folder_is_written_again(lost: str, tmp_path: Path) -> None:
    folder = fill_cache(tmp_path, "kind", "name", writer("one"))
    (folder / lost).unlink()
    fill_cache(tmp_path, "kind", "name", writer("two"))
    assert [(folder / name).read_text() for name in ("top", "deep/leaf")] == ["two", "two"]


@pytest.mark.parametrize("damage", ["top", "files.json"])
def test_a_truncated_file_is_detected(damage: str, tmp_path: Path) -> None:
    folder = fill_cache(tmp_path, "kind", "name", writer("one"))
    (folder / damage).write_text("")
    fill_cache(tmp_path, "kind", "name", writer("two"))
    assert (folder / "top").read_text() == "two"


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "half").write_text("")
        raise UserError("train.tsv:3: wrong")

    with pytest.raises(UserError, match=r"^train.tsv:3: wrong$"):
        fill_cache(tmp_path, "kind", "name", write)
    assert list((tmp_path / "kind").iterdir()) == []


def test_of_two_processes_the_first_folder_is_kept(tmp_path: Path) -> None:
    """A second call within the first stands for the other process."""

    def write(folder: Path) -> None:
        writer("late")(folder)
        fill_cache(tmp_path, "kind", "name", writer("first"))

    folder = fill_cache(tmp_path, "kind", "name", write)
    assert (folder / "top").read_text() == "first"
    assert list((tmp_path / "kind").iterdir()) == [folder]
    assert set(json.loads((folder / "files.json").read_text())) == {"top", "deep/leaf"}


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = tmp_path / "file" / "cache"
    with pytest.raises(UserError) as caught:
        fill_cache(cache, "kind", "name", writer("one"))
    assert str(caught.value).startswith(f"cache={cache}: cannot be written (")
    assert str(caught.value).endswith("set cache=FOLDER")
    assert "\n" not in str(caught.value)
