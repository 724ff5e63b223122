"""Text of users in markup: a figure, a page, a table or a spreadsheet shows it as it is, whatever it spells."""

import re

_REPLACEMENT = "\ufffd"
_SIGNS = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
# Characters without a sign of their own: C1 controls, surrogates (a path that is not UTF-8), what else XML refuses.
_UNSIGNED = re.compile("[\x80-\x9f\ud800-\udfff\ufffe\uffff]")
# Characters that mark nothing unless the text has them twice.
_PAIRED = "*_`~$"
_ESCAPED = {
    "*": re.compile(r"\*"),
    "_": re.compile(r"(?<![^\W_])_|_(?![^\W_])"),  # Between letters it is an underscore.
    "`": re.compile("`"),
    "~": re.compile("~"),
    "$": re.compile(r"\$"),
}
_BLOCK_START = re.compile(r"\A(?=#{1,6}(\s|$)|[-+*](\s|$)|>|=+\s*$|([-*_]\s*){3,}$|\[[ xX]\]|\[\^?[^\]]*\]:)")
_NUMBERED = re.compile(r"(\d{1,9})(?=[.)](\s|$))")
_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "|": r"\textbar{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
)
# What a spreadsheet computes; a signed number is none.
_FORMULA = re.compile(r"\s*[=@+\-\t\r]")
_NUMBER = re.compile(r"[+-]?(\d[\d,]*\.?\d*|\.\d+|inf|nan)(e[+-]?\d+)?( ?%)?", re.IGNORECASE)


def visible(text: str) -> str:
    """Return a text in which each control character is a sign: U+241B for escape, U+240A for a line feed."""
    return _UNSIGNED.sub(_REPLACEMENT, text.translate(_SIGNS))


def escape_markdown(text: str, *, alone: bool = True) -> str:
    """Return Markdown that shows a text within a line or the cell of a table.

    Args:
        text: on one line; a line feed becomes a sign.
        alone: whether nothing else stands in the paragraph or cell; a mark that works in pairs, such as `*`, is then
            left as it is where it stands once.
    """
    text = visible(text)
    paired = [mark for mark in _PAIRED if text.count(mark) > alone]
    links = any(part in text for part in ("](", "][", "]:"))
    text = text.replace("\\", r"\\")
    for mark in paired:
        text = _ESCAPED[mark].sub(rf"\\{mark}", text)
    text = re.sub(r"<(?=[A-Za-z/!?])", r"\\<", text)
    text = re.sub(r"&(?=#?\w+;)", r"\\&", text)
    return text.replace("[", r"\[") if links else text


def escape_markdown_block(text: str) -> str:
    """Return Markdown of a paragraph or an item of a list that shows a text."""
    text = escape_markdown(text).lstrip(" ")
    return _NUMBERED.sub(r"\1\\", text, count=1) if _NUMBERED.match(text) else _BLOCK_START.sub(r"\\", text, count=1)


def escape_latex(text: str) -> str:
    """Return LaTeX that shows a text."""
    text = visible(text).translate(_LATEX)
    return re.sub(r"([-`'])(?=\1)", r"\1{}", text)  # No ligatures: an en dash, quotes.


def escape_plotly(text: str) -> str:
    """Return what Plotly shows as this text: it reads tags, entities, and %{...} in what a pointer shows."""
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace("%{", "%&#123;")


def csv_cell(text: str) -> str:
    """Return the cell of a CSV file for a text: after an apostrophe, if a spreadsheet would take it for a formula."""
    return f"'{text}" if _FORMULA.match(text) and text != "-" and not _NUMBER.fullmatch(text.strip()) else text
