"""The text of `python src/train.py --help`: the config groups, and each choice with the first sentence of its file."""

import re
import textwrap

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
    "logger": "training curves",
    "sweep": "search over settings, with -m",
}
WIDTH = 120


def train_usage() -> str:
    """Return the text of --help."""
    lines = ["python src/train.py GROUP=CHOICE ... GROUP.KEY=VALUE ...", ""]
    for group, title in GROUPS.items():
        files = sorted((CONF / group).glob("*.yaml"))
        lines.append(f"{group}: {title}")
        column = max(len(file.stem) for file in files) + 4
        for file in files:
            sentence = textwrap.shorten(first_sentence(file.read_text()), WIDTH - column, placeholder=" ...")
            lines.append(f"  {file.stem:<{column - 2}}{sentence}")
        lines.append("")
    return "\n".join(
        [
            *lines,
            "Every key is in conf/GROUP/CHOICE.yaml or conf/config.yaml, with a comment that lists its choices.",
            "--cfg job --resolve  prints the resolved settings of a command line, without running it",
            "-m GROUP=A,B         runs one job for each choice",
            "--hydra-help         further options of Hydra",
            "--version            versions, processor and GPUs, to be quoted in an issue",
        ]
    )


def first_sentence(text: str) -> str:
    """Return the first sentence of the comment at the top of a config file; a dot in a formula does not end it."""
    comment = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            comment.append(line.removeprefix("#").strip())
    return re.split(r"(?<=[\w)\"]\.)\s+(?=[A-Z])", " ".join(comment), maxsplit=1)[0].removesuffix(".")
