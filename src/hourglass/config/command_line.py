"""The command line: its words as settings, checks before Hydra, and errors in one line."""

import difflib
import logging
import os
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from hydra import compose, initialize_config_dir
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf
from pydantic import Field

from hourglass.config.compose import load_named_plugins, plain_values
from hourglass.config.options import Words
from hourglass.config.unknown_keys import similar_setting, unknown_key
from hourglass.config.usage import GROUPS, command_usage, default_groups, known_keys, list_keys, usage_line
from hourglass.errors import OutOfMemoryError, UserError
from hourglass.system.commands import printed_command, quoted
from hourglass.system.interrupts import CTRL_C_STATUS, SigtermExit, raise_when_stopped, say_stopped
from hourglass.system.out_of_memory import memory_shortage
from hourglass.system.project import CONF
from hourglass.system.secrets import without_secrets

# A key that makes Hydra build a Python object, as written on the command line: a.b._target_=..., {_target_:...}.
TARGET = re.compile(r"(^|[^\w])_target_['\"]?\s*[:=]")

# A word that sets a key. A path that looks like it is written with ./ before it.
SETTING = re.compile(r"(\+\+?)?[\w.]+=")
# The flags of Hydra and of src/train.py, each with the number of words after it that belong to it.
HYDRA_FLAGS = {
    **dict.fromkeys(("--help", "-h", "--version", "--hydra-help", "--resolve", "--run", "-r", "--multirun", "-m"), 0),
    **dict.fromkeys(("--shell-completion", "-sc", "--info", "-i"), 0),
    **dict.fromkeys(("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"), 1),
    **dict.fromkeys(("--config-dir", "-cd", "--experimental-rerun"), 1),
}

# Groups to which people add files of their own.
OF_ONES_OWN = ("attention", "data", "encoder", "experiment", "metrics")

# Run folders: one or more.
RunPaths = Annotated[Words, Field(min_length=1)]


def arguments(*names: str, optional: str = "", left_out: Collection[str] = ()) -> list[str]:
    """Return the words of the command line of a stage of the pipeline, which takes exactly these arguments.

    Args:
        names: of the arguments.
        optional: what else may stand there, for messages.
        left_out: words of that kind.

    Raises:
        UserError: there are more or fewer words than names.
    """
    words = [word for word in sys.argv[1:] if word not in left_out]
    usage = " ".join(["usage: python", sys.argv[0], *names, *([optional] if optional else [])])
    if {"-h", "--help"} & set(words):
        print(f"{usage}\n\n{sys.modules['__main__'].__doc__}")
        raise SystemExit
    if len(words) < len(names):
        raise UserError(f"{names[len(words)]}: not given; {usage}")
    if len(words) > len(names):
        raise UserError(f"{words[len(names)]}: one word too many; {usage}")
    return words


def read_command(name: str, *operands: str, epilogue: str = "", recorded: Collection[str] = ()) -> dict[str, Any]:
    """Return the settings of a command: those of its file in conf/, changed by the words of the command line.

    A word KEY=VALUE sets a key, as does --KEY=VALUE or --KEY VALUE; any other word is an operand. --help is answered
    here, and the key `plugins`, if the command has it.

    Args:
        name: the file in conf/, without .yaml.
        operands: the keys that operands set, in their order; a last key ending in `...` gets a list of all others.
        epilogue: further lines of --help.
        recorded: keys that are part of the record of results, which only their file sets.

    Raises:
        UserError: a word is no setting or operand of the command, or sets a recorded key; or a key that has no default
            is not set.
    """
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print("\n".join([command_usage(name), *([epilogue] if epilogue else [])]))
        raise SystemExit
    refuse_targets(words)
    keys = [key.name for key in [*known_keys(name), *default_groups(CONF / f"{name}.yaml")]]
    overrides = read_words(words, keys, operands, usage_line(name))
    for override in overrides:
        if (key := re.split(r"[.=]", override.lstrip("+"), maxsplit=1)[0]) in recorded:
            raise UserError(f"{override}: part of the record of the results: change {key} in conf/{name}.yaml")
    with initialize_config_dir(str(CONF)):
        composed = compose(name, overrides=overrides)
    for key in map(str, composed):
        if OmegaConf.is_missing(composed, key):
            raise UserError(f"{key}: not set; usage: {usage_line(name)}")
    values = plain_values(composed)
    load_named_plugins(values.pop("plugins", []))
    return values


def read_words(words: Sequence[str], keys: Sequence[str], operands: Sequence[str], usage: str) -> list[str]:
    """Return the words of a command line as overrides of Hydra.

    Args:
        words: of the command line.
        keys: that the command has.
        operands: keys that words other than KEY=VALUE set: see `read_command`.
        usage: the command line as it should be, for messages.

    Raises:
        UserError: there are more operands than keys for them, or an option is unknown.
    """
    settings, values = [], []
    left = list(words)
    while left:
        word = left.pop(0)
        if word.startswith("-"):
            option, equals, value = word.lstrip("-").partition("=")
            if option not in keys:
                hint = similar_option(f"--{option}", [f"--{key}" for key in [*keys, "help"] if "." not in key])
                if not hint and similar_setting(option):
                    raise UserError(unknown_key(option, option))
                raise UserError(f"{word}: no such option{hint}; usage: {usage}")
            settings.append(f"{option}={value if equals else _following_value(word, option, left)}")
        elif SETTING.match(word):
            settings.append(word)
        elif not word:
            raise UserError(f"an empty word, as of a variable that is not set; usage: {usage}")
        else:
            values.append(word)
    return [*settings, *_operand_settings(values, operands, settings, usage)]


def _following_value(word: str, option: str, left: list[str]) -> str:
    """Take the value of an option from the words that follow it.

    Raises:
        UserError: none follows, or it is an option or a setting of its own.
    """
    if not left or SETTING.match(left[0]) or left[0].startswith("--"):
        raise UserError(f"{word}: has no value: write {option}=VALUE")
    return left.pop(0)


def _operand_settings(
    values: Sequence[str], operands: Sequence[str], settings: Sequence[str], usage: str
) -> Iterator[str]:
    """Yield the overrides that operands stand for: see `read_words`."""
    left = list(values)
    for key in operands:
        if not left:
            return
        name = key.removesuffix("...")
        if any(setting.startswith(f"{name}=") for setting in settings):
            raise UserError(f"{left[0]}: {name}= is on the command line, too: leave out one of them")
        if key.endswith("..."):
            yield f"{name}=[{','.join(map(quoted, left))}]"
            return
        yield f"{name}={quoted(left.pop(0))}"
    if left:
        raise UserError(f"{left[0]}: one word too many; usage: {usage}")


def similar_option(option: str, options: Iterable[str]) -> str:
    """Return a hint to the option that is most like an unknown one, or nothing."""
    close = difflib.get_close_matches(option, list(options), 1)
    return f": did you mean {close[0]}?" if close else ""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Write the log to standard error, and end the program with one line for an error that the user can correct."""
    log = logging.getLogger("hourglass")
    if not log.handlers:
        log.addHandler(logging.StreamHandler(sys.stderr))
        log.setLevel(logging.INFO)
        log.propagate = False
    raise_when_stopped()
    try:
        yield
    except UserError as error:
        print(f"error: {without_secrets(str(error))}", file=sys.stderr, flush=True)
        raise SystemExit(error.status) from None
    except KeyboardInterrupt:  # Not of a training, which prints how to resume it: see training/stopping.py.
        say_stopped()
        raise SystemExit(CTRL_C_STATUS) from None
    except SigtermExit:
        say_stopped()
        raise
    except BrokenPipeError:
        # The reader of the output has gone. Redirect what Python would write at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception as error:
        if isinstance(error, OverrideParseException):
            raise SystemExit(f"error: {without_secrets(_describe_unreadable(error.override))}") from None
        if type(error).__module__.split(".")[0] in ("hydra", "omegaconf"):
            message = "\n".join(str(part) for part in (error, error.__cause__) if part is not None)
            raise SystemExit(f"error: {without_secrets(_one_line(message))}") from None
        if isinstance(error, RuntimeError) and (place := _without_home(sys.argv[1:])):  # Of Path.expanduser.
            raise SystemExit(
                f"error: {place}: no user has this home folder: write ./{place} for a path that begins so"
            ) from None
        if isinstance(error, OSError):  # A full disk, a folder that has become read-only, ...
            raise SystemExit(f"error: {error.filename or 'the system'}: {error.strerror or error}") from None
        if shortage := memory_shortage(type(error).__name__, str(error)):  # Not of a training: see above.
            remedy = "free some, or for a translation set a lower search.batch_tokens or search.beam"
            print(f"error: {shortage}: {remedy}", file=sys.stderr, flush=True)
            raise SystemExit(OutOfMemoryError.status) from None
        raise


def _describe_unreadable(word: str) -> str:
    """Return the message for a setting that Hydra's grammar cannot read, with how to write its value as text."""
    key, equals, value = word.partition("=")
    as_text = equals and value[:1] not in ("[", "{")
    setting = shlex.quote(f"{key}={quoted(value)}")
    remedy = f"to set it to this text, write {setting}; " if as_text else ""
    return f"{word}: cannot be read as a setting: {remedy}a list is [A,B], and text with spaces or signs is in quotes"


def _without_home(words: Sequence[str]) -> str | None:
    """Return the first path of a command line that begins with ~ and the name of no user; None if there is none."""
    for path in (word.rpartition("=")[2] for word in words):
        try:
            Path(path).expanduser()
        except RuntimeError:
            return path
    return None


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
    """Check the words of src/train.py and compose its settings before Hydra does, so that a mistake gives one line.

    --KEY=VALUE and --KEY VALUE become KEY=VALUE. Where Hydra itself reads flags, set it to raise its errors rather than
    print them, for `one_line_errors` to shorten.

    Args:
        config_name: the file in conf/, without .yaml.

    Raises:
        SystemExit: a word is no setting, the settings cannot be composed, or they name a Python object.
    """
    with one_line_errors():
        words = sys.argv[1:] = train_words(sys.argv[1:])
        flags = any(word.startswith("-") for word in words)
        if flags or is_sweep(words):
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")
        refuse_targets(words)
        if not flags:  # Hydra handles its own flags, such as --cfg and -m.
            with initialize_config_dir(str(CONF)):
                compose(config_name, overrides=words)


def train_words(words: Sequence[str]) -> list[str]:
    """Return the words of src/train.py as Hydra reads them: --KEY=VALUE and --KEY VALUE as KEY=VALUE.

    Raises:
        UserError: a word is neither a setting nor a flag of Hydra, or --KEY has no value.
    """
    keys = {*GROUPS, *(key.name for key in list_keys(CONF / "config.yaml"))}
    read, left = [], list(words)
    while left:
        word = left.pop(0)
        flag, equals, _ = word.partition("=")
        if flag in HYDRA_FLAGS:
            following = 0 if equals else HYDRA_FLAGS[flag]
            read += [word, *left[:following]]
            del left[:following]
        elif word.startswith("--") and flag[2:].split(".")[0] in keys:
            read.append(word[2:] if equals else f"{flag[2:]}={_following_value(word, flag[2:], left)}")
        elif word.startswith("-"):
            option = flag.lstrip("-").replace("-", "_")
            remedy = f": write {option}=VALUE" if option.split(".")[0] in keys else ""
            if not remedy and similar_setting(option):
                raise UserError(unknown_key(option, option))
            raise UserError(f"{word}: no such option{remedy or similar_option(flag, HYDRA_FLAGS)}")
        elif equals or word.startswith("~"):
            read.append(word)
        else:
            is_run = (Path(word) / "config.yaml").is_file()
            resume = f"; to resume that run: {printed_command('src/train.py', resume=Path(word))}" if is_run else ""
            raise UserError(f"{word or 'an empty word'}: a setting is KEY=VALUE{resume}")
    return read


def refuse_targets(words: Sequence[str]) -> None:
    """Refuse words that would make Hydra build a Python object.

    Raises:
        UserError: a word sets a key `_target_`.
    """
    if target := next((word for word in words if TARGET.search(word)), None):
        raise UserError(f"{target}: settings cannot name Python objects: choose a group's file by GROUP=NAME")


def _one_line(message: str) -> str:
    """Return an error message of Hydra as one line: the mistake, and the choices if it lists them."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if "Config search path:" in lines:
        lines = lines[: lines.index("Config search path:")]
    lines = [line for line in lines if not line.startswith(("full_key:", "object_type", "To append"))]
    listing = next((i for i, line in enumerate(lines) if line.startswith("Available options")), len(lines) - 1)
    mistake, choices = " ".join(lines[: listing + 1]), lines[listing + 1 :]
    choice = re.search(r"Could not find '(\w+)/(.+?)'", mistake)
    if choice and choices:
        names = [name for line in choices for name in line.split(", ")]
        hint = f": did you mean {alike[0]}?" if (alike := difflib.get_close_matches(choice[2], names, 1)) else ":"
        scores = "; single scores: metrics.main=NAME, metrics.others=[NAME]" if choice[1] == "metrics" else ""
        own = "; a file of your own needs --config-dir FOLDER" if choice[1] in OF_ONES_OWN else ""
        return f"{choice[1]}={choice[2]}: no such choice{hint} There are {', '.join(names)}{scores}{own}"
    if listed := re.search(r"Could not load 'metrics/(.+?)'", mistake):  # As it was written before it was a group.
        return f"metrics=[{listed[1]}]: is one file of conf/metrics; for further scores: metrics.others=[{listed[1]}]"
    unknown = re.search(r"Could not override '([\w.]+)'.*Key '(\w+)' is not in struct", mistake)
    if unknown:
        return unknown_key(unknown[1], unknown[2])
    if group := re.search(r"Could not override '(\w+)'\. No match in the defaults list", mistake):
        return f"{group[1]}: this command has no such group; --help explains the settings there are"
    return f"{mistake} {', '.join(choices)}".strip()
