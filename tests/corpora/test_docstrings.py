"""Docstrings of installed packages: what is read of a file, and the splits by files."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import compose_config

from hourglass.corpora.cleaning import normalise
from hourglass.corpora.corpus import check_leaks, check_recipe, load_corpus, summary
from hourglass.corpora.docstrings import Docstrings, read_docstrings, split_docstring
from hourglass.corpora.recipe import SPLITS
from hourglass.errors import UserError

BODY = "It does so for every one of the rows, and leaves those alone that are too short to have any."


def written(summary: str, body: str) -> str:
    return f'def f():\n    """{summary}\n\n    {body}\n    """\n'


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that installs a made package, as pip does."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def add(name: str, version: str, files: dict[str, str]) -> None:
        information = site / f"{name}-{version}.dist-info"
        information.mkdir(exist_ok=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [f"{information.name}/METADATA,,", f"{information.name}/RECORD,,"]
        for file, text in files.items():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).write_text(text)
            lines.append(f"{file},sha256={hashlib.sha256(text.encode()).hexdigest()},{len(text)}")
        (information / "RECORD").write_text("".join(f"{line}\n" for line in lines))

    return add


def many(name: str, count: int, start: int = 0) -> dict[str, str]:
    """Files of a package, each with a docstring of its own and one that all files share."""
    shared = written("Return what every file returns.", f"{BODY} It is the same.").replace("def f", "def shared")
    return {
        f"{name}/m{i}.py": written(f"Return the number {i} of {name}.", f"{i} are in {name}. {BODY}") + shared
        for i in range(start, start + count)
    }


def options(**changes: Any) -> dict[str, Any]:
    return {**compose_config("data=docstrings")["data"], "packages": ["made"], **changes}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Sum the rows.\n\n    {BODY}\n", ("Sum the rows.", BODY)),
        (f"\n    Sum the  rows.\n\n    {BODY}\n\n    And\n        more.", ("Sum the rows.", f"{BODY} And more.")),
        (f"Sum the rows of a table that is\ngoes on here.\n\n{BODY}", None),  # The sentence goes on.
        (f"Sum.\n\n{BODY}", None),
        (f"Sum the rows:\n\n{BODY}", None),
        ("Sum the rows.\n\nNo more.", None),
        ("Sum the rows.", None),
        (f"{'word ' * 41}\n\n{BODY}", None),
        ("", None),
    ],
)
def test_the_first_line_is_the_summary_of_the_rest(text: str, expected: tuple[str, str] | None) -> None:
    found = split_docstring(text, 7)
    assert (found and (found.summary, found.body)) == expected
    assert found is None or found.line == 7


def test_docstrings_of_modules_classes_and_functions_are_read_and_nothing_is_run(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    places = ["the module", "the class", "the method", "the coroutine"]
    texts = [f'"""Say what {place} does.\n\n{BODY}\n"""' for place in places]
    file.write_text(
        f"{texts[0]}\nraise SystemExit\nclass A:\n    {texts[1]}\n    def f(self):\n        {texts[2]}\n"
        f"async def g():\n    {texts[3]}\n    {texts[0]}\ndef h():\n    x = 1\n    {texts[0]}\n"
    )
    found = list(read_docstrings(file))
    assert sorted(each.summary for each in found) == sorted(f"Say what {place} does." for place in places)
    lines = file.read_text().splitlines()
    assert all(each.summary in lines[each.line - 1] for each in found)


@pytest.mark.parametrize("text", ["print 'two'", "def f(:\n", "\0", "(" * 1000, "x = " + "-" * 100_000 + "1"])
def test_a_file_that_cannot_be_parsed_has_none(text: str, tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(text)
    assert list(read_docstrings(file)) == []


def test_a_chain_as_long_as_that_of_a_dispatcher_is_read(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    chain = "if x == 0:\n    pass\n" + "".join(f"elif x == {number}:\n    pass\n" for number in range(1, 1500))
    file.write_text(f'{chain}else:\n    def f():\n        """Say what f does.\n\n        {BODY}\n        """\n')
    assert [each.summary for each in read_docstrings(file)] == ["Say what f does."]


def test_no_summary_and_no_body_is_in_two_splits(
    install: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And every file is in one; tests and vendored files are left out, and counted."""
    files = many("made", 120)
    folders = ("tests", "lib/array_api_compat/numpy", "lib/array_api_compat/tests")
    files |= {f"made/{folder}/a.py": files["made/m1.py"].replace("made", folder) for folder in folders}
    install("made", "1.2", files)
    with caplog.at_level("INFO", logger="hourglass"):
        _, recipe = check_recipe(options(left_out=["tests"]))
        own = {pair.target for split in SPLITS for pair in recipe.pairs(split)}
        assert "Return the number 1 of lib/array_api_compat/numpy." in own
        assert "data.left_out: 2 of 123 files are not read: 2 in tests" in caplog.messages
        caplog.clear()
        check_recipe(options(left_out=[]))[1].pairs("train")
        assert not [message for message in caplog.messages if "left_out" in message]
        corpus = load_corpus(options(), tmp_path / "cache")
    assert "data.left_out: 3 of 123 files are not read: 2 in array_api_compat, 1 in tests" in caplog.messages
    rows = {split: list(corpus.splits[split]) for split in SPLITS}
    assert sum(map(len, rows.values())) == 121  # One of each file, and what all files share once.
    assert all(len(rows[split]) > 1 for split in SPLITS)
    for side in ("source", "target"):
        texts = [{normalise(row[side]) for row in rows[split]} for split in SPLITS]
        assert sum(map(len, texts)) == len(set.union(*texts)) == 121
    owner: dict[str, str] = {}
    for split in SPLITS:
        for row in rows[split]:
            file = row["id"].rsplit(":", 1)[0].split(" ")[-1]
            assert owner.setdefault(file, split) == split == Docstrings.split_of(file)
            assert row["id"].startswith("made 1.2 made/m")
    assert check_leaks(corpus) == 0


def test_a_run_says_which_versions_it_was_made_of(install: Callable[..., None], tmp_path: Path) -> None:
    install("made", "1.2", many("made", 60))
    install("other", "0.1", many("other", 20))
    chosen = options(packages=["made", "other"])
    first = load_corpus(chosen, tmp_path / "cache")
    assert first.facts.made_of == {"made": "1.2", "other": "0.1"}
    assert "docstrings en-en of made 1.2, of other 0.1: pairs " in summary(first.facts, first.digest)
    # The same text in another version is another corpus.
    (information,) = (tmp_path / "site").glob("other-*")
    for file in information.iterdir():
        file.unlink()
    information.rmdir()
    install("other", "0.2", many("other", 20))
    second = load_corpus(chosen, tmp_path / "cache")
    assert second.facts.made_of == {"made": "1.2", "other": "0.2"}
    assert second.digest != first.digest
    assert load_corpus(chosen, tmp_path / "elsewhere").digest == second.digest


def test_a_body_is_cut_after_so_many_words(install: Callable[..., None], tmp_path: Path) -> None:
    install("made", "1.2", many("made", 60))
    whole, cut = (load_corpus(options(body_words=words), tmp_path / "cache").splits["train"] for words in (400, 9))
    assert list(whole["target"]) == list(cut["target"])
    assert [" ".join(text.split()[:9]) for text in whole["source"]] == list(cut["source"])
    assert max(len(text.split()) for text in whole["source"]) > 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"packages": ["no-such"]}, "data.packages: no-such is not installed: pip install no-such, or leave it out of"),
        ({"packages": []}, "data.packages=[]: list should have at least 1 item"),
        ({"packages": ["made", "made"]}, "data.packages=['made', 'made']: a package is given twice"),
        ({"packages": ["ma.de", "Ma-De"]}, "data.packages=['ma.de', 'Ma-De']: a package is given twice"),
        ({"packages": "made"}, "data.packages=made: input should be a valid list"),
        ({"body_words": 0}, "data.body_words=0: input should be greater than 0"),
        ({"left_out": ["a/b"]}, "data.left_out="),
        ({"source": "de"}, "data.source=de: input should be 'en'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    changes: dict[str, Any], message: str, install: Callable[..., None], tmp_path: Path
) -> None:
    install("made", "1.2", many("made", 3))
    with pytest.raises(UserError) as refused:
        load_corpus(options(**changes), tmp_path / "cache")
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_package_without_a_list_of_files_and_one_with_few_docstrings(
    install: Callable[..., None], tmp_path: Path
) -> None:
    install("bare", "1", {})
    (tmp_path / "site" / "bare-1.dist-info" / "RECORD").unlink()
    with pytest.raises(UserError, match=r"data.packages: bare has no list of its files \(RECORD\): install it by pip"):
        load_corpus(options(packages=["bare"]), tmp_path / "cache")
    install("few", "1", many("few", 1))
    with pytest.raises(UserError, match=r"data.packages=\['few'\]: 2 docstrings .* none is in a file of (test|dev)"):
        load_corpus(options(packages=["few"]), tmp_path / "cache")


def test_the_default_packages_come_with_the_project() -> None:
    """Each is installed here, and none is an extra."""
    _, recipe = check_recipe(compose_config("data=docstrings")["data"])
    assert isinstance(recipe, Docstrings)
    assert all(file.is_file() for file in recipe.inputs())
    assert list(recipe.made_of()) == recipe.packages
