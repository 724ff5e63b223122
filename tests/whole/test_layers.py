"""The packages form layers: each imports only from those below it, so that they can be read in order."""

import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from helpers import ROOT

PACKAGE = ROOT / "src" / "hourglass"
# Which package imports which. A new dependency is a decision: add it here, where a reviewer sees it. Every package may
# import errors and system.
EVERYWHERE = {"errors", "system"}
IMPORTS: dict[str, set[str]] = {
    "errors": set(),
    "system": set(),
    "config": set(),
    "runs": set(),
    "corpora": {"config"},
    "data": {"corpora"},
    "models": {"config", "corpora", "data"},
    "decoding": {"data", "models"},
    "metrics": {"corpora", "data", "models"},
    "tracking": {"config", "decoding", "metrics", "models", "runs"},
    "training": {"config", "corpora", "data", "decoding", "metrics", "models", "runs", "tracking"},
    "sweeps": {"config", "tracking", "training"},
    "analysis": {"config", "corpora", "data", "decoding", "metrics", "models", "runs", "training"},
    "reports": {"analysis", "metrics", "runs", "training"},
    "experiments": {"analysis", "config", "decoding", "metrics", "models", "reports", "runs", "tracking", "training"},
    "bench": {"config", "data", "decoding", "metrics", "models", "reports", "runs", "training"},
}


def arrows() -> dict[str, dict[str, str]]:
    """Return the packages that each package imports, each with a module that imports it."""
    imported: dict[str, dict[str, str]] = {}
    for file in PACKAGE.rglob("*.py"):
        path = file.relative_to(PACKAGE)
        package = path.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
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
    for file in PACKAGE.rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(file.relative_to(PACKAGE).as_posix())
    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_only_entry_scripts_import_inside_functions() -> None:
    """This concerns modules of the package. Slow libraries are listed in pyproject.toml for ruff."""
    late = {
        file.relative_to(ROOT).as_posix()
        for file in [*PACKAGE.rglob("*.py"), *Path(ROOT, "pipelines").rglob("*.py")]
        for function in ast.walk(ast.parse(file.read_text()))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hourglass")
    }
    assert not {name for name in late if name.startswith("src/hourglass")}
