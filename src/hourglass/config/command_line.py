"""The command line: arguments of scripts, and errors of users in one line."""

import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra import compose, initialize_config_dir

from hourglass.errors import OutOfMemoryError, UserError
from hourglass.system.memory import short_of_memory
from hourglass.system.project import CONF
from hourglass.system.secrets import without_secrets

# A key by which Hydra would build an object, on the command line: a.b._target_=..., {_target_:...}.
TARGET = re.compile(r"(^|[^\w])_target_['\"]?\s*[:=]")


def arguments(*names: str) -> list[str]:
    """Return the words on the command line, one for each name.

    Raises:
        UserError: there are more or fewer.
    """
    words = sys.argv[1:]
    if len(words) != len(names):
        raise UserError(f"usage: python {sys.argv[0]} {' '.join(names)}")
    return words


def paths_and_out(words: list[str], usage: str) -> tuple[list[str], str | None]:
    """Return the paths on a command line, two or more, and the folder of its out=FOLDER; None: there is none.

    Raises:
        UserError: there are fewer paths, or several folders; `usage` is what to write.
    """
    outs = [word.removeprefix("out=") for word in words if word.startswith("out=")]
    paths = [word for word in words if not word.startswith("out=")]
    if len(paths) < 2 or len(outs) > 1:
        raise UserError(f"usage: {usage} [out=FOLDER]")
    return paths, outs[0] if outs else None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Show the program's log on standard error, and end it in one line where the user can mend what went wrong."""
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
    except KeyboardInterrupt:  # A training says how to go on before it comes to this.
        print("stopped", file=sys.stderr, flush=True)
        raise SystemExit(130) from None
    except BrokenPipeError:
        # Whoever read the output has gone; nothing more can be said there, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("hydra", "omegaconf"):
            complaint = "\n".join(str(part) for part in (error, error.__cause__) if part is not None)
            raise SystemExit(f"error: {without_secrets(_one_line(complaint))}") from None
        if isinstance(error, OSError):  # A full disk, a folder that has become read-only, ...
            raise SystemExit(f"error: {error.filename or 'the system'}: {error.strerror or error}") from None
        if short := short_of_memory(type(error).__name__, str(error)):  # A training has said so, and how to go on.
            remedy = "free some, or where it translates set a lower search.batch_tokens or search.beam"
            print(f"error: {short}: {remedy}", file=sys.stderr, flush=True)
            raise SystemExit(OutOfMemoryError.status) from None
        raise


def is_sweep(words: Sequence[str]) -> bool:
    """Whether a command line asks Hydra for more than one job."""
    return any(word in ("-m", "--multirun") or word.startswith("hydra.mode=") for word in words)


def check_command_line(config_name: str) -> None:
    """Compose the settings once ahead of Hydra, to cut its complaint about an unknown choice or option to one line.

    In a sweep Hydra is told to hand its errors over instead of printing them, for `one_line_errors` to cut.

    Args:
        config_name: the file in conf/, without .yaml.
    """
    words = sys.argv[1:]
    if is_sweep(words):
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    if named := next((word for word in words if TARGET.search(word)), None):
        raise SystemExit(f"error: {named}: settings name no Python objects; choose a group's file: GROUP=NAME")
    if any(word.startswith("-") for word in words):
        return  # Help, a sweep and the like are Hydra's.
    with one_line_errors(), initialize_config_dir(str(CONF)):
        compose(config_name, overrides=words)


def _one_line(complaint: str) -> str:
    """Return what Hydra says in one line: the mistake, and the choices where it lists them."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    if "Config search path:" in lines:
        lines = lines[: lines.index("Config search path:")]
    lines = [line for line in lines if not line.startswith(("full_key:", "object_type", "To append"))]
    listing = next((i for i, line in enumerate(lines) if line.startswith("Available options")), len(lines) - 1)
    said, choices = lines[: listing + 1], lines[listing + 1 :]
    group = re.search(r"Could not override '(\w+)\..*Key '\1' is not", " ".join(said))
    if group and (CONF / group[1]).is_dir():
        choices = [f"(choose its file first: {group[1]}=NAME)"]
    return " ".join([*said, ", ".join(choices)]).strip()
