"""Reports show text as it is, in each of their formats."""

import csv
import io
from collections import defaultdict
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from hourglass.reports.document import (
    Block,
    Bullets,
    Example,
    Heading,
    Paragraph,
    Table,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
)

NAMES = ("_base", "p$a$q", "a|b", "**x**", "<script>alert(1)</script>", "&lt;", "\x1b[1m", "[*]", r"\frac", "=1+1")
SHOWN = [name.replace("\x1b", "␛") for name in NAMES]


@pytest.fixture
def table() -> Table:
    return Table("t", ["_a_", "b|c"], [[name, "+1.00"] for name in NAMES], "caption *of* it")


@pytest.fixture
def blocks(table: Table) -> list[Block]:
    texts = [f"1. {name}" for name in NAMES]
    return [
        Heading(1, "# `x` <i>"),
        *map(Paragraph, NAMES),
        Bullets(texts),
        table,
        Example("_h_", list(zip(NAMES, NAMES, strict=True))),
    ]


class _Reader(HTMLParser):
    """The text of elements, by their tags; elements within them count as text."""

    def __init__(self, page: str):
        super().__init__()
        self.found: defaultdict[str, list[str]] = defaultdict(list)
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._open.append(tag)
        self.found[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            self.found[tag][-1] += data


def read(page: str) -> dict[str, list[str]]:
    return _Reader(page).found


def test_html(blocks: list[Block]) -> None:
    result = read(to_html(blocks))
    assert result["h1"] == ["# `x` <i>"]
    assert result["p"] == [*SHOWN, "caption *of* it"]
    assert result["li"] == [f"1. {name}" for name in SHOWN]
    assert result["td"][::2] == result["dt"] == result["dd"] == SHOWN
    assert "script" not in result


def test_markdown(blocks: list[Block]) -> None:
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(to_markdown(blocks, "figures"))
    result = read(page)
    assert result["h1"] == ["# `x` <i>"]
    assert result["p"] == [*SHOWN, "caption *of* it"]
    assert result["li"] == [f"1. {name}" for name in SHOWN] + [f"{name}: {name}" for name in SHOWN]
    assert result["th"] == ["_a_", "b|c"]
    assert result["td"][::2] == SHOWN
    assert "script" not in result


def test_csv_has_no_formula(table: Table) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(table))))
    assert [row[0] for row in rows[1:]] == [*NAMES[:-1], "'=1+1"]
    assert {row[1] for row in rows[1:]} == {"+1.00"}


def test_a_latex_row_is_no_option_of_the_line_break_before_it(table: Table) -> None:
    lines = to_latex(table).splitlines()
    assert r"{}[*] & +1.00 \\" in lines
    assert r"\textbackslash{}frac & +1.00 \\" in lines
    assert not any(line.startswith(("[", "*")) for line in lines)
