"""All stages of an ablation in their order, without DVC: the same scripts of pipelines/ablation."""

from functools import partial
from typing import IO

from hourglass.experiments.ablation import Ablation, Variant
from hourglass.experiments.capacity import train_all
from hourglass.experiments.remaining import remaining_training
from hourglass.system.project import ROOT
from hourglass.training.jobs import run_stage


def run_stages(ablation: Ablation, workers: int) -> None:
    """Run all stages; trainings that have ended are left alone, and those that were interrupted go on.

    Args:
        ablation: whose stages.
        workers: searches or trainings at the same time.

    Raises:
        UserError: a stage failed; of searches and trainings, the message names its log.
    """
    corpora = list(ablation.corpora)
    for script in ("prepare", "fingerprint"):
        for corpus in corpora:
            _run(ablation, script, corpus)
    logs = ablation.root / ablation.settings.intermediate / "logs"
    variants = [variant for corpus in corpora for variant in [*ablation.variants(corpus), ablation.blind(corpus)]]
    searches = {f"tune-{variant.corpus}-{variant.name}": partial(_tune, ablation, variant) for variant in variants}
    train_all(searches, logs, workers)
    trainings = {
        f"train-{variant.corpus}-{variant.name}-{seed}": partial(_train, ablation, variant, seed)
        # One seed of each first: a comparison can be read early.
        for seed in dict.fromkeys(seed for variant in variants for seed in ablation.seeds(variant))
        for variant in variants
        if seed in ablation.seeds(variant)
    }
    train_all(trainings, logs, workers)
    for script in ("evaluate", "information", "climb_ladder"):
        for corpus in corpora:
            _run(ablation, script, corpus)
    _run(ablation, "report")


def _run(ablation: Ablation, script: str, *words: str, log: IO[str] | None = None) -> None:
    print(f"{remaining_training(ablation)}; now: {' '.join([script, *words])}", flush=True)
    run_stage(str(ROOT / "pipelines" / "ablation" / f"{script}.py"), [*words, *ablation.stage_words], log)


def _tune(ablation: Ablation, variant: Variant, log: IO[str]) -> None:
    _run(ablation, "tune", variant.corpus, variant.name, log=log)


def _train(ablation: Ablation, variant: Variant, seed: int, log: IO[str]) -> None:
    """Train a variant with one seed, and keep what the results need, unless it is kept already."""
    corpus = variant.corpus
    if variant == ablation.blind(corpus):
        _run(ablation, "train_blind", corpus, f"{seed}", log=log)
        return
    words = (corpus, variant.name, f"{seed}")
    _run(ablation, "train_variant", *words, log=log)
    folders = [
        (ablation.rung(variant, seed, budget), ablation.kept(variant, seed, budget))
        for budget in ablation.corpora[corpus].budgets
    ]
    # The metrics are what is kept last, and name the time of the training.
    if all(kept.metrics.exists() and kept.metrics.read_bytes() == run.metrics.read_bytes() for run, kept in folders):
        return
    _run(ablation, "translate_variant", *words, log=log)
    _run(ablation, "keep_runs", *words, log=log)
