"""Text of users is shown as it is by what reads markup: compared with a reader of each markup."""

import csv
import io
import random
import re

import pytest
from markdown_it import MarkdownIt

from hourglass.system.markup import csv_cell, escape_latex, escape_markdown, escape_markdown_block, visible

NASTY = (
    "$$",
    r"$\frac$",
    "$5-$10",
    "p$a$q",
    "_base",
    "_a_ b",
    "__init__",
    "luong_dot",
    "*",
    "32*",
    "**bold** and *it*",
    "`code`",
    "~~gone~~",
    "~",
    "a|b",
    "<b>bold</b>",
    "<!-- x -->",
    "a < b & c",
    "&lt;",
    "&#36;",
    "[text](http://x.org)",
    "[1.00, 2.00]",
    "[x]: y",
    "![alt](x.png)",
    "\\",
    r"a\*b",
    r"\textbf{x}",
    "# heading",
    "- item",
    "+ item",
    "1. item",
    "12) item",
    "> quote",
    "---",
    "* * *",
    "===",
    "{}",
    "^_^",
    "100 % #1",
    "\x1b[1mred\x1b[0m",
    "two\nlines",
    "▁the",
    "=1+1",
)
_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def shown(markdown: str) -> list[str]:
    """Return the plain text of each paragraph, heading or cell, and where there is markup, its tags too."""
    parts = []
    for token in _MARKDOWN.parse(markdown):
        if token.type == "inline":
            parts.append(
                "".join(c.content if c.type.startswith("text") else f"<{c.type}>" for c in token.children or ())
            )
        elif token.type in ("code_block", "fence", "html_block", "hr"):
            parts.append(f"<{token.type}>")
    return parts


def examples(seed: int) -> list[str]:
    draw = random.Random(seed)
    return [*NASTY, *("".join(draw.choices("ab *_`~$[]()<>&;#\\|!-+.1:=x", k=draw.randint(1, 12))) for _ in range(600))]


def squeezed(text: str) -> str:
    """As a page shows a text: leading, trailing and double spaces mean nothing."""
    return re.sub(" +", " ", visible(text)).strip()


def test_control_characters_have_a_sign() -> None:
    assert visible("a\x1b[1m\tb\n\x7f\x00") == "a␛[1m␉b␊␡␀"
    assert visible("\x85\udcff\ufffe") == "\ufffd" * 3
    assert visible("▁été 中 \U0001f600 \u200d") == "▁été 中 \U0001f600 \u200d"


def test_markdown_shows_a_paragraph_as_it_is() -> None:
    for text in filter(squeezed, examples(1)):
        assert [squeezed(part) for part in shown(escape_markdown_block(text))] == [squeezed(text)]


def test_markdown_shows_an_item_and_a_pair_as_they_are() -> None:
    for text in filter(squeezed, examples(2)):
        assert [squeezed(part) for part in shown(f"- {escape_markdown_block(text)}")] == [squeezed(text)]
        name, value = escape_markdown("*_`", alone=False), escape_markdown(text, alone=False)
        assert squeezed(shown(f"- **{name}**: {value}")[0]) == squeezed(f"<strong_open>*_`<strong_close>: {text}")


@pytest.mark.parametrize("text", ["luong_dot", "[1.00, 2.00]", "32*", "*: fewer than 50", "a < b", "13a, 50 %", "1-5"])
def test_plain_text_is_left_alone(text: str) -> None:
    assert escape_markdown_block(text) == escape_markdown(text) == text


def test_no_pair_of_dollar_signs_is_left_for_formulas() -> None:
    assert escape_markdown("$5-$10") == r"\$5-\$10"
    assert escape_markdown("$5") == "$5"


def test_latex_reads_back() -> None:
    """Undo each command by its meaning."""
    meaning = {"textbackslash{}": "\\", "textasciitilde{}": "~", "textasciicircum{}": "^"}
    meaning |= {"textbar{}": "|", "textless{}": "<", "textgreater{}": ">"} | {c: c for c in "&%$#_{}"}
    command = re.compile(r"\\(" + "|".join(map(re.escape, meaning)) + r")|([-`'])\{\}(?=\2)")
    for text in (*NASTY, "a--b", "``q''", "---"):
        escaped = escape_latex(text)
        assert command.sub(lambda match: meaning.get(match[1], match[2]), escaped) == visible(text)
        bare = command.sub("", escaped)
        assert not re.search(r"[\\&%$#_{}~^]|--|``|''", bare)


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+cmd|x", "-2+3", "\t=1", " =1"])
def test_a_spreadsheet_computes_nothing(text: str) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerow([csv_cell(text)])
    assert next(csv.reader(io.StringIO(stream.getvalue()))) == [f"'{text}"]


@pytest.mark.parametrize("text", ["+1.25", "-3", "-", "-1e-5", "+1,234.5", "+3 %", "word", "[1, 2]", "", "-nan"])
def test_numbers_and_words_are_cells_as_they_are(text: str) -> None:
    assert csv_cell(text) == text
