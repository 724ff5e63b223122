"""Plugins: modules of the user's own, which register attentions, encoders, cells, corpora and metrics.

Only the user names them, on the command line or in a config file of theirs. A run records which it was made with; the
record is compared with what is loaded, and never makes anything be imported, as a run may come from a stranger.
"""

import ast
import hashlib
import importlib
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hourglass.config.registry import REGISTRIES
from hourglass.errors import UserError
from hourglass.system.commands import printed_command
from hourglass.system.project import PACKAGE

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_LIBRARIES = {Path(path) for path in sysconfig.get_paths().values()}
# What does not belong to models, as it begins in the list of what a plugin registers.
_NOT_OF_MODELS = ("data.name=", "metrics=")


@dataclass(frozen=True)
class Plugin:
    """A module that has been imported because the user named it.

    Attributes:
        name: of the module.
        folder: in which its top-level module or package lies.
        files: its own, and those that it imports from the same folder; of an installed package the package's alone.
        digest: SHA-256 of the files.
        registers: what it has registered: attention.name=mine, ...
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    digest: str
    registers: tuple[str, ...]

    @property
    def libraries(self) -> set[str]:
        """The top-level modules of others that its files import, or the modules of this package that these import."""
        return _follow_imports(self.name, self.folder, into_package=True)[1]

    @property
    def is_of_model(self) -> bool:
        """Whether it has registered a part of models, so that those that were trained with it may need it."""
        return any(not what.startswith(_NOT_OF_MODELS) for what in self.registers)


_loaded: dict[str, Plugin] = {}


def load_plugins(names: Iterable[str]) -> None:
    """Import the modules that the user names, so that what they register can be chosen; those loaded stay as they are.

    Args:
        names: of modules, never those that a file of a run names.

    Raises:
        UserError: a module is missing, fails, registers nothing, or registers what has not the interface.
    """
    for name in names:
        if name not in _loaded:
            _loaded[name] = _load(name)


def loaded_plugins(names: Iterable[str] | None = None) -> list[Plugin]:
    """Return the plugins that are loaded, or those of them that have one of these names."""
    return [plugin for name, plugin in _loaded.items() if names is None or name in names]


def plugin_of(kind: type) -> Plugin | None:
    """Return the plugin that a class is from; None for a class of this package."""
    file = _file_of(kind)
    return next((plugin for plugin in _loaded.values() if file in plugin.files), None)


def plugin_record(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run with these settings records of its plugins: by name the digest and what they register."""
    plugins = loaded_plugins(config.get("plugins", []))
    return {plugin.name: {"digest": plugin.digest, "registers": list(plugin.registers)} for plugin in plugins}


def plugin_words() -> list[str]:
    """Return the words of a command line that name the loaded plugins, for a command in a message."""
    return [f"plugins=[{','.join(_loaded)}]"] if _loaded else []


def resume_command(run: Path) -> str:
    """Return the command that resumes the run in a folder with the plugins that are loaded, for a message."""
    return printed_command("src/train.py", *plugin_words(), resume=run)


def require_plugins(names: Any, where: str) -> None:
    """Check that the plugins which a run was made with are loaded.

    Args:
        names: what the run says they are; it may be of a stranger.
        where: the run or its file, for messages.

    Raises:
        UserError: one is not loaded, or the names are none.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) and _MODULE.fullmatch(name) for name in names):
        raise UserError(f"{where}: its plugins are no names of modules; it was altered")
    if missing := [name for name in names if name not in _loaded]:
        words = ",".join([*_loaded, *missing])
        raise UserError(
            f"{where}: needs plugins=[{words}]: it was made with a module that this package does not have; if you "
            "have that module and trust it, name it on the command line"
        )


def check_record(record: Any, where: str) -> list[str]:
    """Check the plugins that a model was trained with against those that are loaded.

    Only those that register a part of models matter: a corpus or a metric is not needed to load a model.

    Args:
        record: of the checkpoint, see `plugin_record`; it may be of a stranger.
        where: the checkpoint, for messages.

    Returns:
        The names of those that have changed since.

    Raises:
        UserError: one is not loaded, or this is no such record.
    """
    changed = []
    try:
        for name, entry in record.items():
            plugin = Plugin(name, Path(), (), str(entry["digest"]), tuple(map(str, entry["registers"])))
            if plugin.is_of_model:
                require_plugins([name], where)
                changed += [name] if _loaded[name].digest != plugin.digest else []
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{where}: its plugins are no names of modules; it was altered") from None
    return changed


def _load(name: str) -> Plugin:
    if name.endswith(".py"):
        file = Path(name)
        raise UserError(
            f"plugins={name}: is a file: write PYTHONPATH={file.parent} before the command, and {file.stem}"
        )
    if not _MODULE.fullmatch(name):
        raise UserError(f"plugins={name}: is no name of a module")
    before = {kind for _, kind in _registered()}
    try:
        with redirect_stdout(sys.stderr):  # Standard output is that of the command: translations, for example.
            module = importlib.import_module(name)
        plugin = _describe(name)
    except (Exception, SystemExit) as error:
        for registry in REGISTRIES:
            registry.remove(set(registry.values()) - before)
        raise UserError(f"plugins={name}: {_describe_failure(name, error)}") from None
    new = [kind.__module__ for _, kind in _registered() if kind not in before and _file_of(kind) not in plugin.files]
    if strays := [origin for origin in new if origin.partition(".")[0] != PACKAGE.name]:
        raise UserError(f"plugins={name}: it imports {strays[0]}, which registers, too: name that before it")
    if not plugin.registers:
        place = getattr(module, "__file__", None) or "a part of Python"
        raise UserError(
            f"plugins={name}: registers nothing (it is {place}): if that is your module, write @ATTENTIONS.register "
            "or the like before its classes, else rename yours"
        )
    return plugin


def _registered() -> list[tuple[str, type]]:
    """Return all that is registered, each class with its setting, such as attention.name=mine."""
    return [(f"{registry.option}={name}", kind) for registry in REGISTRIES for name, kind in registry.items()]


def _describe(name: str) -> Plugin:
    """Return the plugin of a module that has been imported."""
    top = sys.modules[name.partition(".")[0]]
    if paths := list(getattr(top, "__path__", [])):
        folder = Path(paths[0]).absolute().parent
    else:
        folder = Path(getattr(top, "__file__", None) or "").absolute().parent
    files, _ = _follow_imports(name, folder)
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()}\n".encode() + file.read_bytes())
    registers = tuple(what for what, kind in _registered() if _file_of(kind) in files)
    return Plugin(name, folder, tuple(files), digest.hexdigest(), registers)


def _describe_failure(name: str, error: BaseException) -> str:
    """Return the last line of a traceback, with the file and line of the user's code that it comes from."""
    if isinstance(error, ModuleNotFoundError) and error.name is not None and f"{name}.".startswith(f"{error.name}."):
        return f"no such module ({error}): write PYTHONPATH=FOLDER before the command, or install it with pip"
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and PACKAGE not in Path(frame.filename).parents
    ]
    own = [frame for frame in frames if not _LIBRARIES & set(Path(frame.filename).absolute().parents)]
    place = f" ({(own or frames)[-1].filename}:{(own or frames)[-1].lineno})" if own or len(frames) > 1 else ""
    message = " ".join(str(error).split())
    return f"{message if isinstance(error, UserError) else f'{type(error).__name__}: {message}'}{place}"


def _follow_imports(name: str, folder: Path, *, into_package: bool = False) -> tuple[list[Path], set[str]]:
    """Return the files of a module and of what it imports from its folder, and the other modules that these import.

    Args:
        name: of the module.
        folder: in which its top-level module lies. Where libraries are installed, only the module's package counts.
        into_package: whether to follow imports of this package, too.
    """
    top, installed = name.partition(".")[0], folder in _LIBRARIES
    waiting, files = [name], set[Path]()
    others = set[str]()
    while waiting:
        module = waiting.pop()
        first = module.partition(".")[0]
        of_package = first == PACKAGE.name
        if (of_package and not into_package) or (first != top and first in sys.stdlib_module_names):
            continue
        root = PACKAGE.parent if of_package else folder
        named = set() if installed and not of_package and first != top else set(_files_named(module, root))
        if not named:
            others.add(first)
        for file in named - files:
            files.add(file)
            waiting += _imports(file, root)
    return sorted(files), others


def _files_named(module: str, folder: Path) -> Iterator[Path]:
    """Yield the files that the import of a module runs: its own, and those of the packages that it is in."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        place = folder.joinpath(*parts[:count])
        for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if file.is_file():
                yield file


def _imports(file: Path, folder: Path) -> Iterator[str]:
    """Yield the names that a file imports: a.b and a.b.c of `from a.b import c`, as c may be a module."""
    package = file.parent.relative_to(folder).parts
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*parent, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}".removeprefix(".") for alias in node.names)


def _file_of(kind: type) -> Path | None:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return Path(file).absolute() if file else None
