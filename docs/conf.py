"""The documentation site: sphinx-build -W --keep-going -b html docs docs/site

The pages are Markdown that reads as well on a hosting site. All links are relative paths, to pages, to headings and to
files of the repository; one that leads nowhere fails the build.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent

project = "Hourglass"
project_copyright = "The Hourglass authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["site", "static", "templates"]
highlight_language = "none"  # Commands stand in fences without a language.
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = project
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["site.css"]
templates_path = ["templates"]
html_sidebars = {"**": ["contents.html"]}
html_theme_options = {"navbar_center": [], "show_toc_level": 2, "footer_start": [], "footer_end": []}

# Docstrings are plain text in Google style. A name in single backticks becomes a link where it is one of hourglass.
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
add_module_names = False
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
napoleon_use_ivar = True
default_role = "py:obj"
nitpicky = True
# Not checked: names of other libraries, and type variables, which autodoc takes for classes.
nitpick_ignore_regex = [("py:.*", r"(?!hourglass\.).*"), ("py:(class|obj)", r"hourglass\..*\.(T|K|Name|Result|_\w+)")]


def write_reference(app: Sphinx) -> None:
    """Write reference/PACKAGE.rst for each package under src/hourglass, with a section for each of its modules."""
    source, folder = ROOT / "src" / "hourglass", Path(app.srcdir, "reference")
    pages: dict[Path, str] = {}
    for file in sorted(source.rglob("*.py")):
        if file.name == "__init__.py":
            continue
        package = ".".join(("hourglass", *file.relative_to(source).parts[:-1]))
        page = folder / f"{package}.rst"
        title = f"{package}\n{'=' * len(package)}\n"
        section = f"\n{file.stem}\n{'-' * len(file.stem)}\n\n.. automodule:: {package}.{file.stem}\n"
        pages[page] = pages.get(page, title) + section
    for old in set(folder.glob("*.rst")) - set(pages):
        old.unlink()
    for page, text in pages.items():
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def skip_fields(app: Sphinx, what: str, name: str, member: object, *others: object) -> bool | None:
    """Leave out fields of named tuples, which stand in the signature, and the `set` that matplotlib writes anew.

    The docstrings of the first are Python's own, and that of the second has marks that matplotlib's site alone knows.
    """
    text = member.__doc__ or ""
    return True if text.startswith("Alias for field number") or ":mpltype:" in text else None


def mark_up(app: Sphinx, what: str, name: str, member: object, *others: list[str]) -> None:
    """Mark up a docstring: indented equations keep their lines, and |, * and a final _ stand for themselves."""
    lines = others[-1]
    marked: list[str] = []
    margin, equation = 0, False
    for before, line in zip(["", *lines], lines, strict=False):
        indent = len(line) - len(line.lstrip())
        if line and not before:
            equation = indent >= margin + 4
            marked += [" " * margin + "::", ""] if equation else []
        if line and not equation:
            margin = indent
        plain = re.sub(r"[|*]|(?<=\w)_(?!\w)", r"\\\g<0>", line)
        plain = re.sub(r"(: [A-Z])\.$", r"\1", plain)  # A letter with a full stop would be an item of a list.
        marked.append(line if equation else plain)
    lines[:] = marked


def rewrite_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the README before the contents of index.md, and turn links from docs/ to Markdown outside of it.

    Other files outside docs/ that a page links to are copied into the site. Of a report the HTML beside it is copied,
    and of other Markdown the text.
    """
    text = source[0]
    if page == "index":
        app.env.note_dependency(ROOT / "README.md")
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        text = re.sub(r"\]\((?!https?:|#)", "](../", readme).replace("](../docs/", "](") + text
    text = re.sub(r"\]\((\.\./)+README\.md", "](/index.md", text)
    text = re.sub(r"\]\((\.\./results/[^)]*)\.md\)", r"](\1.html)", text)
    source[0] = re.sub(r"\]\((\.\./[^)]*\.md)\)", r"](path:\1)", text)


def open_copied_files(app: Sphinx, page: str, template: str, context: dict[str, str], doctree: object) -> None:
    """Have the browser open copied files instead of saving them."""
    saved, opened = 'class="reference download internal" download=""', 'class="reference internal"'
    context["body"] = context.get("body", "").replace(saved, opened)


def setup(app: Sphinx) -> None:
    """Connect the functions above to the build."""
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-docstring", mark_up, priority=400)  # before napoleon
    app.connect("source-read", rewrite_links)
    app.connect("html-page-context", open_copied_files)
