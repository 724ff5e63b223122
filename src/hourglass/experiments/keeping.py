"""Keep in git what an ablation needs of a run: settings, curves, and the scores of each test sentence; some models."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hourglass.analysis.likelihoods import encode_split, keep_likelihoods, read_likelihoods
from hourglass.analysis.sentence_scores import score_sentences, write_sentence_scores
from hourglass.experiments.ablation import BLIND, Ablation, Variant
from hourglass.metrics.likelihood import reference_nats
from hourglass.models.checkpoint import load_trained, write_rounded
from hourglass.runs.folder import RunFolder, write_config
from hourglass.runs.translations import Translation, read_translations
from hourglass.system.files import read_json, write_json, write_whole
from hourglass.training.finished import FinishedRun


def keep_runs(ablation: Ablation, variant: Variant, seed: int) -> None:
    """Write what is kept of a variant's run with each budget.

    Raises:
        UserError: a run, its translations or the corpus is missing or damaged.
    """
    for budget in ablation.corpora[variant.corpus].budgets:
        run, kept = FinishedRun.open(ablation.rung(variant, seed, budget).path), ablation.kept(variant, seed, budget)
        before = run.config["start_from"]
        places = {
            "run_dir": _from_root(ablation, run.path),
            "start_from": None if before is None else _from_root(ablation, Path(before)),
            "cache": _from_root(ablation, Path(run.config["cache"])),
        }
        write_whole(kept.curves, run.folder.curves.read_bytes())
        write_config(kept, {**run.config, **places})
        keep_likelihoods(kept.likelihoods, read_likelihoods(run, run.prepared))
        if variant.name != BLIND:  # Which cannot translate.
            keep_sentence_scores(ablation, variant, seed, budget, _translations(ablation, variant, seed, budget, run))
        write_whole(kept.metrics, run.folder.metrics.read_bytes())


def keep_sentence_scores(ablation: Ablation, variant: Variant, seed: int, budget: int, rows: list[Translation]) -> None:
    """Write the scores of a run's translations of test."""
    facts = ablation.facts(variant.corpus)
    scores = score_sentences(
        variant.name,
        rows,
        edges=ablation.corpora[variant.corpus].edges,
        examples=ablation.settings.examples,
        source_language=facts.source,
        metrics=ablation.metrics(variant.corpus),
    )
    write_sentence_scores(ablation.kept(variant, seed, budget), scores)


def left_as_it_is(result: Path, runs: Sequence[RunFolder]) -> str | None:
    """Return a line that a kept result stays, where it is there and weights that make it are not; None otherwise.

    Git keeps the result, but not the weights of the runs.

    Args:
        result: file or folder.
        runs: whose best weights make it.
    """
    absent = [str(run.path) for run in runs if not run.best.exists()]
    if not absent or not result.exists():
        return None
    return f"left as it is: {result} (no weights of {', '.join(absent)} on this machine)"


def _from_root(ablation: Ablation, path: Path) -> str:
    """Return a path as seen from the project's folder, for other machines; as it is where it lies elsewhere."""
    whole = path.expanduser().resolve()
    return str(whole.relative_to(ablation.root.resolve()) if whole.is_relative_to(ablation.root.resolve()) else path)


def _translations(ablation: Ablation, variant: Variant, seed: int, budget: int, run: FinishedRun) -> list[Translation]:
    """Return the translations of test: those of the largest budget have a stage of their own."""
    if budget == ablation.corpora[variant.corpus].budgets[-1]:
        return read_translations(ablation.translations(variant, seed, "test"))
    return run.translations


def keep_model(ablation: Ablation, variant: Variant) -> str:
    """Write a small model of a variant's first seed with the largest budget: a run folder to translate and explore.

    Its metrics are those of the run, with the loss on dev before and after its weights were rounded.

    Returns:
        a line that says so.

    Raises:
        UserError: the run or the corpus is missing or damaged.
    """
    folder, kept = ablation.run(variant, ablation.seeds(variant)[0]), ablation.model(variant)
    if kept.best.exists() and (line := left_as_it_is(kept.path, [folder])):
        return line
    run = FinishedRun.open(folder.path)
    usual = ablation.compose([])["cache"]
    places = {"run_dir": _from_root(ablation, kept.path), "start_from": None, "cache": usual}
    write_whole(kept.curves, run.folder.curves.read_bytes())
    write_config(kept, {**run.config, **places})
    write_rounded(run.folder.best, kept.best, places)
    losses = []
    for checkpoint in (run.folder.best, kept.best):
        trained = load_trained(checkpoint)
        nats = reference_nats(trained.model, encode_split(trained, run.prepared, "dev"))
        losses.append(float(np.concatenate(nats).mean()))
    rounding = dict(zip(("dev_loss_in_float32", "dev_loss_in_bfloat16"), losses, strict=True))
    write_json(kept.metrics, {**read_json(run.folder.metrics), "rounding": rounding})
    size = kept.best.stat().st_size / 1e6
    return f"kept: {kept.path} ({size:.1f} MB; loss on dev {losses[0]:.4f}, with rounded weights {losses[1]:.4f})"
