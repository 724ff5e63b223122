"""Commands as text that can be pasted: words quoted for the shell, and paths also for the grammar of Hydra."""

import re
import shlex
from contextlib import suppress
from pathlib import Path

from hourglass.system.project import ROOT


def path_override(option: str, path: Path) -> str:
    """Return the override that sets an option to a path with any characters, as Hydra reads it."""
    return f"{option}={quoted(str(path))}"


def quoted(text: str) -> str:
    """Return the word that Hydra reads as this text.

    Text that Hydra would read as something else than these characters is a quoted value of its grammar, in which a
    backslash escapes only before a quote. OmegaConf reads ${ as a reference, unless a backslash is before it.
    """
    if re.fullmatch(r"[A-Za-z0-9_./-]+", text) and not _reads_as_a_value(text):
        return text
    text = re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + r"\${", text)
    quote = "'" if '"' in text else '"'
    text = re.sub(rf"(\\*)({quote}|\Z)", lambda match: 2 * match[1] + (f"\\{quote}" if match[2] else ""), text)
    return f"{quote}{text}{quote}"


def _reads_as_a_value(text: str) -> bool:
    """Return whether Hydra may read a word as a number, a truth value or null, in any spelling."""
    with suppress(ValueError):
        float(text.replace("_", ""))
        return True
    return text.lower() in ("null", "true", "false", "none", "yes", "no", "on", "off")


def printed_command(script: str, *words: str | Path, **paths: Path) -> str:
    """Return a command of this project for a message: pasted into the shell of this process, it does what it says.

    Args:
        script: path of the script from the project's folder.
        words: its further words, as the script should get them.
        paths: options whose values are paths, in Hydra's grammar.
    """
    place = Path(script) if Path.cwd() == ROOT else ROOT / script
    options = [path_override(option, path) for option, path in paths.items()]
    return shlex.join(["python", str(place), *map(str, words), *options])
