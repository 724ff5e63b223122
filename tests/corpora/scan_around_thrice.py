"""Of the recorded results on scan_length: python tests/corpora/scan_around_thrice.py

Prints the test commands with "around left thrice" or "around right thrice" of a verb, which no command of train has,
and the rest apart: exact match and outputs that end too early, in percent, means over seeds with the largest budget.
"""

import re
from pathlib import Path

import numpy as np

from hourglass.analysis.sentence_scores import read_sentence_scores
from hourglass.corpora.scan import LONGEST_TRAINED, all_commands
from hourglass.metrics.exact import SequenceAccuracy
from hourglass.runs.folder import RunFolder
from hourglass.system.project import ROOT

RECORD = ROOT / "results" / "scan_length" / "runs"
THRICE = re.compile(r"(walk|look|run|jump) around (left|right) thrice")


def main() -> None:
    """Print the table."""
    train: list[str] = []
    test: list[str] = []
    for words, actions in all_commands():
        (test if len(actions) > LONGEST_TRAINED else train).append(" ".join(words))
    assert not any(THRICE.search(command) for command in train)
    has = np.array([bool(THRICE.search(command)) for command in test])
    lengths = np.array([len(command.split()) for command in test])
    budget = max((int(folder.name) for folder in (RECORD / "none-1").iterdir()), default=0)
    metric = SequenceAccuracy("zxx")
    for name, rows in (("with", has), ("without", ~has)):
        print(f"{name} around ... thrice: {rows.sum():,} commands")
        for variant in ("none", "fixed", "bahdanau", "luong_general"):
            runs = [kept(RECORD / f"{variant}-{seed}" / str(budget), lengths)[rows].sum(0) for seed in range(1, 6)]
            exact = [float(metric.score(sums)) for sums in runs]
            early = np.mean([metric.details(sums)["premature"] for sums in runs])
            seeds = " ".join(f"{score:.1f}" for score in exact)
            print(f"  {variant:<14} exact {np.mean(exact):5.1f} (by seeds {seeds})  early {early:5.1f}")


def kept(folder: Path, lengths: np.ndarray) -> np.ndarray:
    """Return the counts of each test command of a run, [commands, 3], which are in the order of the grammar."""
    scores = read_sentence_scores(RunFolder(folder), "dvc repro evaluate@scan_length")
    assert (scores.source_words == lengths).all(), f"{folder}: other commands, or in another order"
    return scores.statistics


if __name__ == "__main__":
    main()
