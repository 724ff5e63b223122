"""The packages form layers: each imports only from those below it, so that they can be read in order."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from helpers import ROOT

from hourglass.tracking.packing import REQUIREMENTS

PACKAGE = ROOT / "src" / "hourglass"
# Which package imports which. A new dependency is a decision: add it here, where a reviewer sees it. Every package may
# import errors and system.
EVERYWHERE = {"errors", "system"}
IMPORTS: dict[str, set[str]] = {
    "errors": set(),
    "system": set(),
    "config": set(),
    "runs": {"config"},
    "corpora": {"config"},
    "data": {"corpora"},
    "models": {"config", "corpora", "data"},
    "decoding": {"corpora", "data", "models"},
    "metrics": {"config", "corpora", "data", "models"},
    "tracking": {"config", "corpora", "decoding", "metrics", "models", "runs"},
    "training": {"config", "corpora", "data", "decoding", "metrics", "models", "runs", "tracking"},
    "analysis": {"config", "corpora", "data", "decoding", "metrics", "models", "runs", "training"},
    "reports": {"analysis", "corpora", "metrics", "runs", "training"},
    "sweeps": {"config", "metrics", "reports", "tracking", "training"},
    "experiments": {
        *("analysis", "config", "corpora", "decoding", "metrics", "models", "reports", "runs", "tracking", "training"),
    },
    "bench": {"analysis", "config", "corpora", "data", "decoding", "metrics", "models", "reports", "runs", "training"},
}


@cache
def modules() -> dict[Path, ast.Module]:
    return {file: ast.parse(file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))}


def imported_names(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    """Yield the modules that these statements import: hourglass.errors of `from hourglass.errors import UserError`."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@cache
def arrows() -> dict[str, dict[str, str]]:
    """Return the packages that each package imports, each with a module that imports it."""
    imported: dict[str, dict[str, str]] = {}
    for file, tree in modules().items():
        path = file.relative_to(PACKAGE)
        package = path.parts[0].removesuffix(".py")
        for name in imported_names(ast.walk(tree)):
            parts = name.split(".")
            if parts[0] == "hourglass" and len(parts) > 1 and parts[1] != package:
                imported.setdefault(package, {})[parts[1]] = path.as_posix()
    return imported


@pytest.mark.parametrize("package", sorted(IMPORTS))
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    allowed = IMPORTS[package] | (EVERYWHERE if package not in EVERYWHERE else {"errors"})
    unexpected = {name: module for name, module in arrows().get(package, {}).items() if name not in allowed}
    assert not unexpected


def test_the_table_has_every_package_and_no_unused_dependency() -> None:
    packages = {path.stem for path in PACKAGE.iterdir() if path.name not in ("__init__.py", "__pycache__")}
    assert packages == IMPORTS.keys()
    unused = {package: IMPORTS[package] - arrows().get(package, {}).keys() for package in IMPORTS}
    assert not {package: names for package, names in unused.items() if names}


def test_the_layers_have_an_order() -> None:
    """No packages import each other in a circle, and the table lists them in order."""
    order = list(TopologicalSorter(IMPORTS).static_order())
    assert sorted(order) == sorted(IMPORTS)
    place = {package: number for number, package in enumerate(IMPORTS)}
    assert all(place[below] < place[package] for package, names in IMPORTS.items() for below in names)


def test_public_names_are_unique() -> None:
    """No public function or class is defined twice in the package, so that a search for a name finds one thing."""
    places = defaultdict(list)
    for file, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(file.relative_to(PACKAGE).as_posix())
    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_no_function_of_the_package_imports_the_package() -> None:
    """Entry scripts may import late. Slow libraries that modules import late are listed in pyproject.toml for ruff."""
    late = {
        file.relative_to(PACKAGE).as_posix()
        for file, tree in modules().items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for name in imported_names(ast.walk(function))
        if name.startswith("hourglass")
    }
    assert not late


def test_a_packed_model_imports_only_its_requirements() -> None:
    """Follow the imports of the module that MLflow loads. A library that comes with a requirement is named here."""
    waiting, done, libraries = [PACKAGE / "tracking" / "served_model.py"], set(), set()
    while waiting:
        file = waiting.pop()
        done.add(file)
        for name in imported_names(modules()[file].body):
            top, *rest = name.split(".")
            if top == "hourglass":
                module = PACKAGE.joinpath(*rest).with_suffix(".py") if rest else PACKAGE / "__init__.py"
                waiting += {module} - done
            else:
                libraries.add(top)
    assert PACKAGE / "models" / "seq2seq.py" in done
    assert libraries - sys.stdlib_module_names == {*REQUIREMENTS, "yaml", "pydantic_core"}
