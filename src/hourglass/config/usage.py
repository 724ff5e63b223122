"""The text of --help, made of the comments in conf/: of src/train.py the groups and choices, of others every key."""

import itertools
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hourglass.errors import UserError
from hourglass.system.project import CONF

# Most important first. The other folders of conf/ are not for src/train.py.
GROUPS = {
    "attention": "attention of the decoder to the source",
    "data": "corpus",
    "experiment": "published systems, and other whole configurations",
    "encoder": "encoder",
    "decoder": "decoder",
    "tokenizer": "segmentation of the text",
    "optimizer": "optimizer and learning-rate schedule",
    "trainer": "devices, budget, validation and checkpoints",
    "search": "decoding of the test split",
    "metrics": "scores of dev and test",
    "logger": "training curves",
    "sweep": "search over settings, with -m",
}
WIDTH = 120


class Key(NamedTuple):
    """A key of a config file.

    Attributes:
        name: its full name on the command line.
        default: its value in the file, as written there; empty for a list or mapping in lines of its own.
        comment: its choices and meaning.
    """

    name: str
    default: str
    comment: str


def list_keys(file: Path, prefix: str = "") -> list[Key]:
    """Return the commented keys of a config file, in its order.

    Args:
        file: the config file.
        prefix: what the command line writes before a key of the file, such as `search.`.
    """
    keys, parents = [], [(-1, prefix)]
    for line in file.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"( *)([\w.]+):(?: +([^#\s].*?))?(?: +# (.*))?", line)
        if not match:
            continue
        indent, name, default, comment = match.groups(default="")
        while parents[-1][0] >= len(indent):
            parents.pop()
        name = parents[-1][1] + name
        if comment:
            keys.append(Key(name, default, comment))
        parents.append((len(indent), f"{name}."))
    return keys


def default_groups(file: Path) -> list[Key]:
    """Return the groups in the defaults list of a config file, each with its default choice."""
    pattern = r"^  - (\w+): (\S+)(?: +# (.*))?$"
    return [Key(*match.groups(default="")) for match in re.finditer(pattern, file.read_text(encoding="utf-8"), re.M)]


def known_keys(name: str) -> list[Key]:
    """Return the keys that a command takes, those of all choices of its groups among them, each once.

    Args:
        name: the command's file in conf/, without .yaml.
    """
    file = CONF / f"{name}.yaml"
    keys = list_keys(file)
    for group in default_groups(file):
        if group.name not in ("experiment", "sweep"):
            keys += [key for choice in _choices(group.name) for key in list_keys(choice, f"{group.name}.")]
    return list({key.name: key for key in reversed(keys)}.values())[::-1]


def choices_with(key: str) -> list[str]:
    """Return the choices of a group that explain a key of it, such as `attention.size`."""
    group = key.partition(".")[0]
    return [file.stem for file in _choices(group) if key in [known.name for known in list_keys(file, f"{group}.")]]


def command_usage(name: str) -> str:
    """Return the text of --help of a command that has no groups but a search: what it does, and every key.

    Args:
        name: the command's file in conf/, without .yaml.
    """
    file = CONF / f"{name}.yaml"
    title, _, usage = head_comment(file)[0].partition(": ")
    lines = [f"usage: {usage}", "", *textwrap.wrap(" ".join([f"{title}.", *head_comment(file)[1:]]), WIDTH), ""]
    lines += list_of_keys([*list_keys(file), *default_groups(file)])
    for group in default_groups(file):
        lines += ["", f"Keys of {group.name}, after {group.name}=CHOICE:"]
        lines += list_of_keys(key for key in known_keys(name) if key.name.startswith(f"{group.name}."))
    return "\n".join(
        [*lines, "", "Write KEY=VALUE, with quotes around a value that has spaces, brackets or parentheses."]
    )


def usage_line(name: str) -> str:
    """Return the command line of a command as it should be.

    Args:
        name: the command's file in conf/, without .yaml.
    """
    return head_comment(CONF / f"{name}.yaml")[0].partition(": ")[2]


def list_of_keys(keys: Iterable[Key]) -> list[str]:
    """Return a line or more for each key: its name, its comment, and its default in parentheses."""
    keys = list(keys)
    column = max((len(key.name) for key in keys), default=0) + 4
    lines = []
    for key in keys:
        default = {"???": "to be given", "": ""}.get(key.default, f"default {key.default}")
        text = f"{key.comment} ({default})" if default else key.comment
        first, *others = textwrap.wrap(text, WIDTH - column)
        lines += [f"  {key.name:<{column - 2}}{first}", *(" " * column + line for line in others)]
    return lines


def train_usage(group: str | None = None) -> str:
    """Return the text of --help of src/train.py.

    Args:
        group: one of the groups, to list its choices and keys; None: all groups with their choices.

    Raises:
        UserError: there is no such group.
    """
    if group is not None:
        return _group_usage(group)
    lines = ["usage: python src/train.py GROUP=CHOICE ... GROUP.KEY=VALUE ... KEY=VALUE ...", ""]
    for name, title in GROUPS.items():
        lines += [f"{name}: {title}", *_list_of_choices(name), ""]
    return "\n".join(
        [
            *lines,
            "Keys outside of the groups:",
            *list_of_keys(key for key in list_keys(CONF / "config.yaml") if not key.name.startswith("hydra.")),
            "",
            "--help GROUP         explains every key of a group",
            "--cfg job --resolve  prints the resolved settings of a command line, without running it",
            "-m GROUP=A,B         runs one job for each choice",
            "--hydra-help         further options of Hydra",
            "--version            versions, processor and GPUs, to be quoted in an issue",
        ]
    )


def _group_usage(group: str) -> str:
    if group not in GROUPS:
        raise UserError(f"--help {group}: no such group; there are {', '.join(GROUPS)}")
    lines = [f"{group}: {GROUPS[group]}", *_list_of_choices(group)]
    listed: dict[str, Key] = {}
    for file in _choices(group):
        own = {key.name: key for key in list_keys(file, "" if group in ("experiment", "sweep") else f"{group}.")}
        new = [key for name, key in own.items() if listed.get(name) != key]
        if new:
            lines += ["", f"Keys of {group}={file.stem}{', besides' if listed and len(new) < len(own) else ''}:"]
            lines += list_of_keys(new)
        listed |= own
    return "\n".join(lines)


def _list_of_choices(group: str) -> list[str]:
    files = _choices(group)
    column = max(len(file.stem) for file in files) + 4
    return [
        f"  {file.stem:<{column - 2}}" + textwrap.shorten(first_sentence(file), WIDTH - column, placeholder=" ...")
        for file in files
    ]


def _choices(group: str) -> list[Path]:
    """Return the files of a group, those that others are built on first."""
    files = sorted((CONF / group).glob("*.yaml"))
    return sorted(files, key=lambda file: len(re.findall(r"^  - (?!_self_|override)", file.read_text(), re.M)))


def head_comment(file: Path) -> list[str]:
    """Return the lines of the comment at the top of a config file."""
    comment = itertools.takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    return [line.removeprefix("#").strip() for line in comment if not line.startswith("# @")]


def first_sentence(file: Path) -> str:
    """Return the first sentence of the comment at the top of a config file; a dot in a formula does not end it."""
    text = " ".join(head_comment(file))
    return re.split(r"(?<=[\w)\"]\.)\s+(?=[A-Z])", text, maxsplit=1)[0].removesuffix(".")
