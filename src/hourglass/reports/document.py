"""A report as blocks, written as HTML, Markdown, CSV and LaTeX."""

import csv
import html
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from hourglass.reports.plots import to_pdf, to_svg
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
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of short texts."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its CSV and LaTeX files.
        head: headings of the columns.
        rows: cells.
        caption: below it.
        text_columns: number of leading columns that hold text; the others hold numbers.
    """

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    text_columns: int = 1


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


Block = Heading | Paragraph | Bullets | Table | Picture | Example


def write_files(folder: Path, blocks: Sequence[Block]) -> None:
    """Write report.html and report.md, and beside them tables as CSV and LaTeX and figures as SVG and PDF."""
    write_whole(folder / "report.html", to_html(blocks))
    write_whole(folder / "report.md", to_markdown(blocks, "figures"))
    for block in blocks:
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
    """Return a self-contained page: styles and figures are part of it, and it loads nothing."""
    title = next(block.text for block in blocks if isinstance(block, Heading))
    body = "\n".join(map(_html, blocks))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape_html(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{_escape_html(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_escape_html(text)}</p>"
        case Bullets(texts):
            return "<ul>" + "".join(f"<li>{_escape_html(text)}</li>" for text in texts) + "</ul>"
        case Table():
            return _html_table(block)
        case Picture(name, figure, alt, caption):
            svg = to_svg(figure, name).replace("<svg", f'<svg role="img" aria-label="{_escape_html(alt)}"', 1)
            return f"<figure>\n{svg}\n<figcaption>{_escape_html(caption)}</figcaption>\n</figure>"
        case Example(heading, lines):
            rows = "".join(f"<dt>{_escape_html(name)}</dt><dd>{_escape_html(text)}</dd>" for name, text in lines)
            return f"<h4>{_escape_html(heading)}</h4>\n<dl>{rows}</dl>"


def _escape_html(text: str) -> str:
    return html.escape(visible(text))


def _html_table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        kinds = ["" if i < table.text_columns else ' class="number"' for i in range(len(cells))]
        return (
            "<tr>"
            + "".join(f"<{tag}{k}>{_escape_html(c)}</{tag}>" for c, k in zip(cells, kinds, strict=True))
            + "</tr>"
        )

    rows = "\n".join(row(cells, "td") for cells in table.rows)
    caption = f'<p class="caption">{_escape_html(table.caption)}</p>'
    return (
        f'<div class="table"><table>\n<thead>{row(table.head, "th")}</thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'
        f"\n{caption}"
    )


_STYLE = """
body { margin: 0; background: #fff; color: #111; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 1rem; } p, ul, figcaption { max-width: 56rem; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { margin-top: 2.5rem; } h4 { margin-bottom: 0.2rem; }
figure { margin: 1.5rem 0; } figure svg { width: 100%; height: auto; max-width: 44rem; font-family: sans-serif; }
p, li, figcaption { overflow-wrap: anywhere; } ul { padding-left: 1.4rem; } li { margin-bottom: 0.3rem; }
figcaption, .caption { color: #444; font-size: 0.9rem; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.85rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.1rem 0.8rem; margin-top: 0; }
dt { color: #444; } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { display: block; } dt { margin-top: 0.4rem; font-size: 0.85rem; } }
"""


def to_markdown(blocks: Sequence[Block], figures: str) -> str:
    """Return the report as Markdown; figures are SVG files in the folder `figures`, named as in the blocks."""
    return "\n\n".join(_markdown(block, figures) for block in blocks) + "\n"


def _markdown(block: Block, figures: str) -> str:
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
    return escape_markdown(text).replace("|", "\\|")


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
