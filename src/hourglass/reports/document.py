"""A report as blocks, written as HTML, Markdown, CSV and LaTeX."""

import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from hourglass.reports.plots import LineFigure, to_pdf, to_svg
from hourglass.reports.readings import ReadSeries, read_figure
from hourglass.system.commands import printed_command
from hourglass.system.files import write_whole
from hourglass.system.markup import csv_cell, escape_latex, escape_markdown, escape_markdown_block, visible


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Plain text.

    Attributes:
        text: of it.
        lead: whether it is what a reader should see first.
    """

    text: str
    lead: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list of short texts."""

    texts: Sequence[str]


class Linked(str):
    """The text of a table's cell that leads somewhere.

    Attributes:
        target: address, relative to the report; one that begins with # is a place in the page, which Markdown lacks.
    """

    target: str

    def __new__(cls, text: str, target: str) -> "Linked":
        """Return the text with its target."""
        made = super().__new__(cls, text)
        made.target = target
        return made


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its CSV and LaTeX files.
        head: headings of the columns.
        rows: cells.
        caption: below it.
        text_columns: number of leading columns that hold text; the others hold numbers.
        row_names: of each row the name that a link leads to, or an empty one; none: no row has one.
    """

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    text_columns: int = 1
    row_names: Sequence[str] = ()


@dataclass(frozen=True)
class Picture:
    """A figure; `alt` describes it in words."""

    name: str
    figure: Figure
    alt: str
    caption: str


@dataclass(frozen=True)
class Example:
    """A sentence with its reference and translations, by name."""

    heading: str
    lines: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Folded:
    """A part of a report that is closed until a reader opens it. In Markdown, where nothing folds, it is a section.

    Attributes:
        level: of its heading.
        summary: its heading.
        blocks: what it holds.
    """

    level: int
    summary: str
    blocks: "Sequence[Block]"


Leaf = Heading | Paragraph | Bullets | Table | Picture | Example
Block = Leaf | Folded


def unfolded(blocks: Sequence[Block]) -> Iterator[Leaf]:
    """Yield the blocks in their order, of a folded part its heading and what it holds."""
    for block in blocks:
        if isinstance(block, Folded):
            yield Heading(block.level, block.summary)
            yield from unfolded(block.blocks)
        else:
            yield block


def write_files(folder: Path, blocks: Sequence[Block]) -> None:
    """Write report.html and report.md, and beside them tables as CSV and LaTeX and figures as SVG and PDF."""
    write_whole(folder / "report.html", to_html(blocks))
    write_whole(folder / "report.md", to_markdown(blocks, "figures"))
    for block in unfolded(blocks):
        if isinstance(block, Table):
            write_whole(folder / "tables" / f"{block.name}.csv", to_csv(block))
            write_whole(folder / "tables" / f"{block.name}.tex", to_latex(block))
        if isinstance(block, Picture):
            write_whole(folder / "figures" / f"{block.name}.svg", to_svg(block.figure, block.name))
            (folder / "figures" / f"{block.name}.pdf").write_bytes(to_pdf(block.figure))


def write_made_by(folder: Path, blocks: Sequence[Block], script: str) -> None:
    """Write the files of a report whose last line is the command of this process, by which it is made again.

    Args:
        folder: see `write_files`.
        blocks: of the report.
        script: of the command, from the project's folder.
    """
    write_files(folder, [*blocks, Paragraph(f"Made by: {printed_command(script, *sys.argv[1:])}")])


def to_html(blocks: Sequence[Block]) -> str:
    """Return a self-contained page: styles, figures and script are part of it, and it loads nothing."""
    every = list(unfolded(blocks))
    title = next(block.text for block in every if isinstance(block, Heading))
    moves = len(every) > len(blocks) or any(_can_be_read(block) for block in every)
    return PAGES.get_template("page.html").render(
        title=title, blocks=blocks, style=_source("page.css"), script=_source("page.js") if moves else ""
    )


def _can_be_read(block: Leaf) -> bool:
    return isinstance(block, Picture) and isinstance(block.figure, LineFigure)


class DrawnPicture(NamedTuple):
    """A picture for the page.

    Attributes:
        svg: without its end tag, so that the points of its series can follow.
        series: that can be read and left out; empty: it is not a figure of lines.
    """

    svg: Markup
    series: list[ReadSeries]


def _drawn(picture: Picture) -> DrawnPicture:
    label = Markup('<svg role="img" aria-label="{}"').format(visible(picture.alt))
    svg = to_svg(picture.figure, picture.name).replace("<svg", label, 1)
    series = read_figure(picture.figure) if isinstance(picture.figure, LineFigure) else []
    return DrawnPicture(Markup(svg.rstrip().removesuffix("</svg>")), series)


def _source(name: str) -> Markup:
    """Return a file that the page has as it is."""
    assert PAGES.loader is not None
    return Markup(PAGES.loader.get_source(PAGES, name)[0])


def _shown(value: object) -> object:
    """Return what the page has for a value: text of users with signs in place of control characters."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def make_pages() -> Environment:
    """Return the environment in which the template of a page is read: it escapes all that it is given."""
    environment = Environment(
        loader=PackageLoader("hourglass.reports"),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawn"] = _drawn
    for kind in (Heading, Paragraph, Bullets, Table, Picture, Example, Folded, Linked):
        environment.tests[kind.__name__.lower()] = lambda value, kind=kind: isinstance(value, kind)
    return environment


PAGES = make_pages()


def to_markdown(blocks: Sequence[Block], figures: str) -> str:
    """Return the report as Markdown; figures are SVG files in the folder `figures`, named as in the blocks."""
    return "\n\n".join(_markdown(block, figures) for block in unfolded(blocks)) + "\n"


def _markdown(block: Leaf, figures: str) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {escape_markdown(text)}"
        case Paragraph(text):
            return escape_markdown_block(text)
        case Bullets(texts):
            return "\n".join(f"- {escape_markdown_block(text)}" for text in texts)
        case Table():
            rule = [":--" if i < block.text_columns else "--:" for i in range(len(block.head))]
            head, *rows = ([_markdown_cell(cell) for cell in row] for row in (block.head, *block.rows))
            lines = "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))
            return f"{lines}\n\n{escape_markdown_block(block.caption)}"
        case Picture(name, _, alt, caption):
            label = re.sub(r"(?<!\\)[\[\]]", r"\\\g<0>", escape_markdown(alt))
            return f"![{label}]({figures}/{name}.svg)\n\n{escape_markdown_block(caption)}"
        case Example(heading, lines):
            pairs = ((escape_markdown(name, alone=False), escape_markdown(text, alone=False)) for name, text in lines)
            return f"#### {escape_markdown(heading)}\n\n" + "\n".join(f"- **{name}**: {text}" for name, text in pairs)


def _markdown_cell(text: str) -> str:
    cell = escape_markdown(text).replace("|", "\\|")
    return f"[{cell}](<{text.target}>)" if isinstance(text, Linked) and not text.target.startswith("#") else cell


def to_csv(table: Table) -> str:
    """Return a table as CSV; a spreadsheet takes no cell for a formula."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(map(csv_cell, row) for row in [table.head, *table.rows])
    return stream.getvalue()


def to_latex(table: Table) -> str:
    """Return a table as LaTeX, with rules of the package booktabs."""
    columns = "".join("l" if i < table.text_columns else "r" for i in range(len(table.head)))
    rows = [" & ".join(map(escape_latex, row)) + r" \\" for row in [table.head, *table.rows]]
    # After the \\ of the row before, [ and * would be its options.
    lines = [f"{{}}{row}" if row.startswith(("[", "*")) else row for row in rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(table.caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
