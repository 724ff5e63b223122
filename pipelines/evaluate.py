"""Score the variants of a corpus against each other, with intervals: python pipelines/evaluate.py CORPUS"""

from hourglass.ablation import load_ablation
from hourglass.errors import arguments, one_line_errors
from hourglass.evaluation import evaluate
from hourglass.runs import write_json, write_whole


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
    by_length = [
        f"{name},{bucket['mean_source_words']},{one['bleu']['mean']},{_bounds(one['bleu']['interval'])}"
        for name, variant in found["variants"].items()
        for bucket, one in zip(found["buckets"], variant["buckets"], strict=True)
        if one["bleu"]
    ]
    write_whole(folder / "bleu_by_length.csv", "\n".join(["variant,source_words,bleu,low,high", *by_length, ""]))
    learning = [
        f"{name},{seed},{tokens},{loss},{bleu}"
        for name, variant in found["variants"].items()
        for seed, curve in zip(variant["seeds"], variant["curves"], strict=True)
        for (tokens, loss), (_, bleu) in zip(curve["loss"], curve["bleu"], strict=True)
    ]
    write_whole(folder / "learning.csv", "\n".join(["variant,seed,target_tokens,dev_loss,dev_bleu", *learning, ""]))


def _bounds(interval: dict[str, float] | None) -> str:
    return f"{interval['low']},{interval['high']}" if interval else ","


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS"))
