"""Score the variants of a corpus against each other, with intervals: python pipelines/ablation/evaluate.py CORPUS"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation
from hourglass.experiments.evaluation import evaluate
from hourglass.system.files import write_json, write_whole


def main(corpus: str) -> None:
    """Write the evaluation, what DVC shows as metrics, and the data of its plots."""
    ablation = load_ablation()
    ablation.check_corpus(corpus)
    found = evaluate(ablation, corpus)
    folder = ablation.results(corpus)
    write_json(folder / "evaluation.json", found)
    headline = {
        name: {"bleu": one["bleu"]["mean"], "chrf": one["chrf"], "brevity_penalty": one["brevity_penalty"]}
        for name, one in found["variants"].items()
    }
    write_json(folder / "metrics.json", headline)
    variants = found["variants"]
    # A column for each variant: DVC's plots draw a line for each.
    by_length = [
        [bucket["mean_source_words"], *(one["buckets"][number]["bleu"]["mean"] for one in variants.values())]
        for number, bucket in enumerate(found["buckets"])
        if bucket["sentences"]
    ]
    write_table(folder / "bleu_by_length.csv", ["source_words", *variants], by_length)
    curves = [[curve["bleu"] for curve in one["curves"]] for one in variants.values()]
    learning = [
        [np.mean([points[number][0] for curve in curves for points in curve])]
        + [np.mean([points[number][1] for points in curve]) for curve in curves]
        for number in range(len(curves[0][0]))
    ]
    write_table(folder / "learning.csv", ["target_tokens", *variants], learning)


def write_table(path: Path, head: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    """Write a CSV file."""
    lines = [",".join(head), *(",".join(map(str, row)) for row in rows)]
    write_whole(path, "\n".join([*lines, ""]))


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS"))
