"""Search for a variant's settings on dev: python pipelines/ablation/tune.py CORPUS ATTENTION

Every candidate is a short run with the first seed; the candidate with the lowest dev loss is chosen. A search that was
killed resumes with the unfinished candidate.
"""

from hourglass.analysis.evaluation import SCHEMA_VERSION, Candidate, Tuning
from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation
from hourglass.runs.folder import RunFolder
from hourglass.system.commands import path_override
from hourglass.system.records import write_record
from hourglass.training.finished import FinishedRun
from hourglass.training.jobs import run_training


def main(corpus: str, attention: str) -> None:
    """Train all candidates, and write their dev losses and costs and the choice."""
    ablation = load_ablation()
    variant = ablation.variant(corpus, attention)
    settings = ablation.corpora[corpus]
    candidates = []
    for number, overrides in enumerate(ablation.candidates(variant)):
        run = RunFolder(ablation.made(corpus) / "tune" / f"{attention}-{number}")
        common = ablation.overrides(variant, settings.seeds[0], settings.tune_tokens)
        run_training([*common, *overrides, path_override("run_dir", run.path)])
        metrics = FinishedRun.open(run.path).metrics
        candidates.append(Candidate(overrides, metrics.dev.loss, metrics.train_target_tokens, metrics.train_seconds))
    best = min(candidates, key=lambda candidate: candidate.dev_loss)
    write_record(ablation.tuning_file(variant), Tuning(best.overrides, candidates), SCHEMA_VERSION)


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS", "ATTENTION"))
