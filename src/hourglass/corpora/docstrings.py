"""Docstrings: the body of a docstring, and its first line as the summary, from Python packages that are installed.

By the convention for docstrings (PEP 257) the first line says in one sentence what the rest describes. The texts are
read from the source files of this environment, which are parsed and never imported; none is part of this project.
"""

import ast
import inspect
import logging
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, PositiveInt

from hourglass.corpora.cleaning import normalise
from hourglass.corpora.recipe import Pair, Recipe, Split
from hourglass.corpora.sampling import draw_by_hash
from hourglass.errors import UserError
from hourglass.system.bars import Bar

log = logging.getLogger(__name__)

# Words of a summary, and of a body at least: without them there is nothing to sum up.
SUMMARY_WORDS = range(3, 41)
LEAST_BODY = 15


class Docstring(NamedTuple):
    """A docstring with a summary.

    Attributes:
        summary: its first line, of one sentence.
        body: the rest.
        line: where it begins in its file.
    """

    summary: str
    body: str
    line: int


@dataclass(frozen=True)
class Docstrings(Recipe):
    """Bodies of docstrings and their first lines. All docstrings of a file are in one split.

    Attributes:
        packages: names of installed packages, as pip knows them.
        body_words: words of a body that are read; the rest is cut off (See et al. 2017 read 400).
        left_out: names of folders whose files are not read, at whatever depth: those of tests, and those in which a
            package has copies of others, whose docstrings would stand in train and in test.
    """

    source: Literal["en"]
    target: Literal["en"]
    packages: Annotated[list[str], Field(min_length=1)]
    body_words: PositiveInt
    left_out: list[Annotated[str, Field(pattern=r"^[^/]+$")]]

    name: ClassVar = "docstrings"

    def __post_init__(self) -> None:
        # pip knows scikit-learn as scikit_learn and Scikit-Learn, too.
        if len({re.sub(r"[-_.]+", "-", package).lower() for package in self.packages}) < len(self.packages):
            raise UserError(f"data.packages={self.packages}: a package is given twice")

    def inputs(self) -> list[Path]:
        """Return the file of each package that lists its other files, with a hash of each."""
        return [_record(installed) for installed in self._installed]

    def made_of(self) -> dict[str, str]:
        """Return the version of each package."""
        return {installed.name: _version(installed) for installed in self._installed}

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Return the docstrings of the files of a split, in the order of the packages.

        Raises:
            UserError: there are none.
        """
        own = [pair for place, pair in self._pairs if place == split]
        if not own:
            raise UserError(
                f"data.packages={self.packages}: {len(self._pairs)} docstrings with a summary and a body, and none is "
                f"in a file of {split}: name more packages, or larger ones"
            )
        return iter(own)

    @staticmethod
    def split_of(file: str) -> Split:
        """Return the split of a file, by a hash that is the same on every machine: 1/20 each in test and dev."""
        match draw_by_hash(file) % 20:
            case 0:
                return "test"
            case 1:
                return "dev"
        return "train"

    @cached_property
    def _installed(self) -> list[Distribution]:
        return [_find(package) for package in self.packages]

    @cached_property
    def _pairs(self) -> list[tuple[Split, Pair]]:
        """All pairs with their splits. Of several with the same body or the same summary, the first one."""
        seen: set[str] = set()
        pairs: list[tuple[Split, Pair]] = []
        every = [(installed, file) for installed in self._installed for file in _sources(installed)]
        files = [(installed, file) for installed, file in every if not _folders(file, self.left_out)]
        if counts := Counter(name for _, file in every for name in _folders(file, self.left_out)[:1]):
            named = ", ".join(f"{count:,} in {name}" for name, count in counts.most_common())
            log.info("data.left_out: %s of %s files are not read: %s", f"{counts.total():,}", f"{len(every):,}", named)
        with Bar("reading docstrings", len(files), "files") as bar:
            for installed, file in files:
                path = Path(str(installed.locate_file(file)))
                for found in read_docstrings(path):
                    body = " ".join(found.body.split()[: self.body_words])
                    own = {normalise(found.summary), normalise(body)}
                    if seen.isdisjoint(own):
                        # With the version: the digest of the corpus says what it was made of.
                        name = f"{installed.name} {_version(installed)} {file}:{found.line}"
                        place = f"{path}:{found.line}"
                        pairs.append((self.split_of(str(file)), Pair(name, body, found.summary, (place, place))))
                    seen |= own
                bar.update()
        return pairs


def read_docstrings(file: Path) -> Iterator[Docstring]:
    """Yield the docstrings of a Python file that have a summary and a body, of modules, classes and functions.

    A file that this Python cannot parse has none.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of the packages' own code.
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # MemoryError: nested too deeply.
        return
    for node in _documented(tree):
        text = ast.get_docstring(node, clean=False)
        if text is None:
            continue
        assert isinstance(node.body[0], ast.Expr)
        if found := split_docstring(text, node.body[0].lineno):
            yield found


def _documented(
    tree: ast.Module,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield what may have a docstring, in the order of the file. Only statements are looked at, not expressions."""
    stack: list[ast.AST] = [tree]  # No recursion: a chain of elif is as deep as it is long.
    while stack:
        block = stack.pop()
        if isinstance(block, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield block
        parts = ("body", "handlers", "orelse", "finalbody")
        stack += [statement for part in parts for statement in getattr(block, part, ())][::-1]


def split_docstring(text: str, line: int) -> Docstring | None:
    """Return a docstring in two, or None: its first line is no summary, or nothing that could be summed up follows.

    Args:
        text: as in the file.
        line: where it begins.
    """
    first, gap, *rest = [*inspect.cleandoc(text).splitlines(), "", ""]
    summary, body = " ".join(first.split()), " ".join(" ".join(rest).split())
    words = len(summary.split())
    # An empty line ends the summary (PEP 257): a sentence that goes on in the next line is cut in its middle.
    if gap.strip() or words not in SUMMARY_WORDS or summary.endswith(":") or len(body.split()) < LEAST_BODY:
        return None
    return Docstring(summary, body, line)


def _find(package: str) -> Distribution:
    try:
        return distribution(package)
    except (PackageNotFoundError, ValueError):
        raise UserError(
            f"data.packages: {package} is not installed: pip install {package}, or leave it out of the list"
        ) from None


def _version(installed: Distribution) -> str:
    """Return the version without the name of a build: torch 2.13.0 for 2.13.0+cpu, whose texts are the same."""
    return installed.version.partition("+")[0]


def _record(installed: Distribution) -> Path:
    """Return the file RECORD of a package.

    Raises:
        UserError: it has none, as a package that is installed in editable mode or by the system.
    """
    files = installed.files or []
    found = next((file for file in files if file.name == "RECORD"), None)
    if found is None:
        raise UserError(
            f"data.packages: {installed.name} has no list of its files (RECORD): install it by pip, or leave it out of "
            "the list"
        )
    return Path(str(installed.locate_file(found)))


def _sources(installed: Distribution) -> list[PurePosixPath]:
    """Return the Python files of a package, sorted."""
    files = [PurePosixPath(str(file)) for file in installed.files or []]
    return sorted(file for file in files if file.suffix == ".py" and file.parts[0] != "..")


def _folders(file: PurePosixPath, names: Collection[str]) -> list[str]:
    """Return the folders of a file that have one of these names, from the outermost on."""
    return [folder for folder in file.parts[:-1] if folder in names]
