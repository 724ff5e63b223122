"""The command line: positional arguments of scripts, checks before Hydra, and errors in one line."""

import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import compose, initialize_config_dir

from hourglass.errors import OutOfMemoryError, UserError
from hourglass.system.out_of_memory import memory_shortage
from hourglass.system.project import CONF
from hourglass.system.secrets import without_secrets

# A key that makes Hydra build a Python object, as written on the command line: a.b._target_=..., {_target_:...}.
TARGET = re.compile(r"(^|[^\w])_target_['\"]?\s*[:=]")


def arguments(*names: str) -> list[str]:
    """Return the words of the command line of a script that takes exactly these positional arguments.

    Raises:
        UserError: there are more or fewer words than names.
    """
    words = sys.argv[1:]
    if len(words) != len(names):
        raise UserError(f"usage: python {sys.argv[0]} {' '.join(names)}")
    return words


def paths_and_out(words: list[str], usage: str) -> tuple[list[str], str | None]:
    """Split a command line into its paths, two or more, and the folder of out=FOLDER, None without that word.

    Args:
        words: of the command line.
        usage: the command line as it should be, for messages, without [out=FOLDER].

    Raises:
        UserError: there are fewer than two paths, or out= is given twice.
    """
    outs = [word.removeprefix("out=") for word in words if word.startswith("out=")]
    paths = [word for word in words if not word.startswith("out=")]
    if len(paths) < 2 or len(outs) > 1:
        raise UserError(f"usage: {usage} [out=FOLDER]")
    return paths, outs[0] if outs else None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Write the log to standard error, and end the program with one line for an error that the user can correct."""
    log = logging.getLogger("hourglass")
    if not log.handlers:
        log.addHandler(logging.StreamHandler(sys.stderr))
        log.setLevel(logging.INFO)
        log.propagate = False
    try:
        yield
    except UserError as error:
        print(f"error: {without_secrets(str(error))}", file=sys.stderr, flush=True)
        raise SystemExit(error.status) from None
    except KeyboardInterrupt:  # Not of a training, which prints how to resume it: see training/stopping.py.
        print("stopped", file=sys.stderr, flush=True)
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader of the output has gone. Redirect what Python would write at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("hydra", "omegaconf"):
            message = "\n".join(str(part) for part in (error, error.__cause__) if part is not None)
            raise SystemExit(f"error: {without_secrets(_one_line(message))}") from None
        if isinstance(error, OSError):  # A full disk, a folder that has become read-only, ...
            raise SystemExit(f"error: {error.filename or 'the system'}: {error.strerror or error}") from None
        if shortage := memory_shortage(type(error).__name__, str(error)):  # Not of a training: see above.
            remedy = "free some, or for a translation set a lower search.batch_tokens or search.beam"
            print(f"error: {shortage}: {remedy}", file=sys.stderr, flush=True)
            raise SystemExit(OutOfMemoryError.status) from None
        raise


def is_sweep(words: Sequence[str]) -> bool:
    """Return whether a command line asks Hydra for more than one job."""
    return any(word in ("-m", "--multirun") or word.startswith("hydra.mode=") for word in words)


def config_words(hydra: Any) -> list[str]:
    """Return the words that have src/train.py find the same config files as this process: --config-dir and its kind.

    Args:
        hydra: Hydra's own settings, `HydraConfig.get()`, in a job of whatever launcher.
    """
    words = []
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            words += ["--config-dir", source.path]
        elif source.provider == "main" and (source.schema, source.path) != ("file", str(CONF)):
            words += ["--config-path", source.path if source.schema == "file" else f"{source.schema}://{source.path}"]
    if hydra.job.config_name != "config":
        words += ["--config-name", hydra.job.config_name]
    return words + [word for word in hydra.overrides.hydra if word.lstrip("+").startswith("hydra.searchpath=")]


def check_command_line(config_name: str) -> None:
    """Compose the settings before Hydra does, so that an unknown choice or option gives an error of one line.

    Where Hydra itself reads flags, set it to raise its errors rather than print them, for `one_line_errors` to shorten.

    Args:
        config_name: the file in conf/, without .yaml.

    Raises:
        SystemExit: the settings cannot be composed, or name a Python object.
    """
    words = sys.argv[1:]
    flags = any(word.startswith("-") for word in words)
    if flags or is_sweep(words):
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    if target := next((word for word in words if TARGET.search(word)), None):
        raise SystemExit(f"error: {target}: settings cannot name Python objects: choose a group's file by GROUP=NAME")
    if flags:
        return  # Hydra handles its own flags, such as --help and -m.
    with one_line_errors(), initialize_config_dir(str(CONF)):
        compose(config_name, overrides=words)


def _one_line(message: str) -> str:
    """Return an error message of Hydra as one line: the mistake, and the choices if it lists them."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if "Config search path:" in lines:
        lines = lines[: lines.index("Config search path:")]
    lines = [line for line in lines if not line.startswith(("full_key:", "object_type", "To append"))]
    listing = next((i for i, line in enumerate(lines) if line.startswith("Available options")), len(lines) - 1)
    mistake, choices = " ".join(lines[: listing + 1]), lines[listing + 1 :]
    group = re.search(r"Could not override '(\w+)\..*Key '\1' is not", mistake)
    if group and (CONF / group[1]).is_dir():
        choices = [f"(choose its file first: {group[1]}=NAME)"]
    return f"{mistake} {', '.join(choices)}".strip()
