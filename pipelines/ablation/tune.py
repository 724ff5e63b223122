"""Give a variant its small search on dev: python pipelines/ablation/tune.py CORPUS ATTENTION

Every candidate is a short run of its own, with the first seed; the one of the lowest dev loss is chosen. Killed, it
goes on with the candidate that it was at.
"""

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.config.compose import path_override
from hourglass.experiments.ablation import load_ablation
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json, write_json
from hourglass.training.jobs import run_training


def main(corpus: str, attention: str) -> None:
    """Run all candidates, and write what they cost and which was chosen."""
    ablation = load_ablation()
    variant = ablation.variant(corpus, attention)
    settings = ablation.corpora[corpus]
    candidates = []
    for number, overrides in enumerate(ablation.candidates(variant)):
        run = RunFolder(ablation.made(corpus) / "tune" / f"{attention}-{number}")
        common = ablation.overrides(variant, settings.seeds[0], settings.tune_tokens)
        run_training([*common, *overrides, path_override("run_dir", run.path)])
        metrics = read_json(run.metrics)
        candidates.append(
            {
                "overrides": overrides,
                "dev_loss": metrics["dev"]["loss"],
                "target_tokens": metrics["train_target_tokens"],
                "seconds": metrics["train_seconds"],
            }
        )
    best = min(candidates, key=lambda candidate: candidate["dev_loss"])
    write_json(ablation.tuned(variant), {"chosen": best["overrides"], "candidates": candidates})


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS", "ATTENTION"))
