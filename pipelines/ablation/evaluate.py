"""Score the variants of a corpus and compare them: python pipelines/ablation/evaluate.py CORPUS"""

from collections.abc import Sequence
from pathlib import Path

from hourglass.analysis.evaluation import VariantResult, mean_curve, write_evaluation
from hourglass.config.command_line import one_line_errors
from hourglass.experiments.ablation import Ablation, read_stage
from hourglass.experiments.evaluation import evaluate
from hourglass.system.files import write_json, write_whole


def main(ablation: Ablation, corpus: str) -> None:
    """Write the evaluation, the metrics that DVC shows, and the data of its plots."""
    ablation.check_corpus(corpus)
    for file in ablation.stray_tuning_files(corpus):
        file.unlink()
        print(f"removed: {file} (its variant is not in the ablation)")
    evaluation = evaluate(ablation, corpus)
    variants = evaluation.variants
    write_evaluation(ablation.evaluation_file(corpus), evaluation)
    folder = ablation.results(corpus)
    headline = {
        name: {evaluation.main: result.score.mean, **result.others, **penalty(result)}
        for name, result in variants.items()
    }
    write_json(folder / "metrics.json", headline)
    # One column for each variant: DVC draws a line for each.
    by_length = []
    for number, bucket in enumerate(evaluation.buckets):
        if bucket.mean_source_words is not None:
            scores = [score.mean for result in variants.values() if (score := result.buckets[number].score)]
            by_length.append([bucket.mean_source_words, *scores])
    write_table(folder / "score_by_length.csv", ["source_words", *variants], by_length)
    curves = [[training.curves.score for training in result.seeds] for result in variants.values()]
    of_all = mean_curve([curve for seeds in curves for curve in seeds])  # Of these, the target tokens.
    means = [mean_curve(seeds)[-len(of_all) :] for seeds in curves]
    learning = [[tokens, *(score for _, score in points)] for (tokens, _), *points in zip(of_all, *means, strict=True)]
    write_table(folder / "learning.csv", ["target_tokens", *variants], learning)


def penalty(result: VariantResult) -> dict[str, float]:
    """Return BLEU's brevity penalty, of metrics that have it."""
    return {} if result.brevity_penalty is None else {"brevity_penalty": result.brevity_penalty}


def write_table(path: Path, head: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    """Write a CSV file."""
    lines = [",".join(head), *(",".join(map(str, row)) for row in rows)]
    write_whole(path, "\n".join([*lines, ""]))


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage("CORPUS"))
