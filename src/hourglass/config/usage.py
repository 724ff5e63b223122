"""What `python src/train.py --help` says: the groups, and each choice by the first sentence of its file."""

import re
import textwrap

from hourglass.system.project import CONF

# In the order of a reader's questions; the other folders of conf/ are not for src/train.py.
GROUPS = {
    "attention": "how the decoder looks back",
    "data": "the corpus",
    "experiment": "a published system, or another whole recipe",
    "encoder": "what reads the source",
    "decoder": "what writes the target",
    "tokenizer": "what a piece of text is",
    "optimizer": "how weights are learnt",
    "trainer": "where, and for how long",
    "search": "how the test split is decoded",
    "logger": "where curves go",
    "sweep": "a search over settings, with -m",
}


WIDTH = 120


def train_usage() -> str:
    """Return the text."""
    lines = ["python src/train.py GROUP=CHOICE ... GROUP.KEY=VALUE ...", ""]
    for group, question in GROUPS.items():
        files = sorted((CONF / group).glob("*.yaml"))
        lines.append(f"{group}: {question}")
        column = max(len(file.stem) for file in files) + 4
        for file in files:
            said = textwrap.shorten(first_sentence(file.read_text()), WIDTH - column, placeholder=" ...")
            lines.append(f"  {file.stem:<{column - 2}}{said}")
        lines.append("")
    return "\n".join(
        [
            *lines,
            "Every key is in conf/GROUP/CHOICE.yaml, or conf/config.yaml, with a comment that has its choices.",
            "--cfg job --resolve  shows what a command line comes to, without running it",
            "-m GROUP=A,B         runs one job for each choice",
            "--hydra-help         what else Hydra can do",
        ]
    )


def first_sentence(text: str) -> str:
    """Return the first sentence of the comment that a config file begins with; a point in a formula ends none."""
    comment = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            comment.append(line.removeprefix("#").strip())
    return re.split(r"(?<=[\w)\"]\.)\s+(?=[A-Z])", " ".join(comment), maxsplit=1)[0].removesuffix(".")
