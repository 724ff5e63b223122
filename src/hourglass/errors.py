"""The errors that a user can mend, how they are shown, and the exit status that tells them apart.

1 an error; 3 the training diverged; 4 out of memory. A run that is stopped ends with 130 (Ctrl-C) or 143 (SIGTERM),
see `stopping`; one that is killed has no say: shells show 137.
"""

import logging
import os
import re
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONF = Path(__file__).resolve().parents[2] / "conf"
# A key by which Hydra would build an object, on the command line: a.b._target_=..., {_target_:...}.
TARGET = re.compile(r"(^|[^\w])_target_['\"]?\s*[:=]")


class UserError(Exception):
    """A mistake that the user can mend (a bad path, line, option): shown as one line, without a traceback.

    The message names the file and line number, or the option, and says what to do.
    """

    status = 1


class DivergedError(UserError):
    """The loss is no number any more."""

    status = 3


class OutOfMemoryError(UserError):
    """The model or a batch is too large for the device."""

    status = 4


class BrokenOffError(UserError):
    """The world around a training failed it, not its settings: once that is mended, the run can go on."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file when the system refuses to write it; a full disk does not say by itself which it was.

    Raises:
        BrokenOffError: the system refuses.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise BrokenOffError(f"{path}: cannot be written ({reason}): free the disk, or make it writable") from None


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


_SECRET_KEY = r"(?i)([?&]\w*(?:password|passwd|pwd|token|secret|key)\w*=)[^&\s]+"


def without_secrets(text: str) -> str:
    """Return a text with the user, the password and the keys in the addresses that it holds covered."""
    text = re.sub(r"(\w://)[^\s'\"]+@", r"\1***@", text)
    return re.sub(_SECRET_KEY, r"\1***", text)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, 200 characters at most, without secrets; or the error's name."""
    return without_secrets((str(error).strip() or type(error).__name__).splitlines()[0])[:200]


def check_address(uri: str, option: str, *, environment: str | None) -> None:
    """See that the address of a database or a server can be read in one way, and gives no secret away.

    Args:
        uri: the address.
        option: what set it, for messages; no message repeats the address.
        environment: the variable that a secret belongs into; None where the address stands there.

    Raises:
        UserError: what stands before the host is not percent-encoded, or there is a secret and `environment`.
    """
    scheme, _, rest = uri.partition("://")
    if scheme.partition("+")[0] == "sqlite":
        return
    place = rest.partition("?")[0]
    account, at, host = place.rpartition("@")
    try:
        _ = urllib.parse.urlsplit(f"{scheme}://{host}").port
    except ValueError:
        raise UserError(f"{option}: what follows the host is no port") from None
    if re.search(r"[@/#\s]", account) or "@" in rest[len(place) :]:
        raise UserError(f"{option}: percent-encode the user and the password (@ is %40, / is %2F, # is %23, ? is %3F)")
    # A token may stand as the user of a server; a database has users without passwords.
    secret = ":" in account or (at and scheme.startswith("http")) or re.search(_SECRET_KEY, rest)
    if environment and secret:
        raise UserError(
            f"{option}: has a password, and settings are written to files: set {environment}=... in the environment, "
            f"and {option}=null"
        )


def short_of_memory(kind: str, message: str) -> str | None:
    """Return in one line what is said of memory where that is what an error means; torch has no one error for it.

    Args:
        kind: the name of its class: MemoryError, torch's OutOfMemoryError, ...
        message: its own.
    """
    if not kind.endswith("MemoryError") and "can't allocate memory" not in message:
        return None
    return f"out of memory ({(message.strip().splitlines() or ['no more is left'])[0][:200]})"


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


def check_command_line(config_name: str) -> None:
    """Compose the settings once ahead of Hydra, to cut its complaint about an unknown choice or option to one line.

    In a sweep Hydra is told to hand its errors over instead of printing them, for `one_line_errors` to cut.

    Args:
        config_name: the file in conf/, without .yaml.
    """
    words = sys.argv[1:]
    if "-m" in words or "--multirun" in words or any(word.startswith("hydra.mode=") for word in words):
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    if named := next((word for word in words if TARGET.search(word)), None):
        raise SystemExit(f"error: {named}: settings name no Python objects; choose a group's file: GROUP=NAME")
    if any(word.startswith("-") for word in words):
        return  # Help, a sweep and the like are Hydra's.
    from hydra import compose, initialize_config_dir  # noqa: PLC0415 (this file is imported by all)

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
