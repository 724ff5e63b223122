"""Evaluate the variants of an ablation on one corpus: scores, differences, intervals, verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from hourglass.analysis.comparing import (
    Measured,
    TestSet,
    compare_measured,
    make_draws,
    make_test_set,
    measure,
    score_summary,
    slope_of,
)
from hourglass.analysis.convergence import judge_convergence
from hourglass.config.differences import PLACES
from hourglass.experiments.ablation import Ablation, Variant, read_tuned
from hourglass.metrics import scoring
from hourglass.metrics.significance import compare, pool
from hourglass.models.build import build_model
from hourglass.runs.translations import read_translations
from hourglass.system.files import read_json
from hourglass.training.finished import FinishedRun


def evaluate(ablation: Ablation, corpus: str) -> dict[str, Any]:
    """Return all that the report says of a corpus, as plain values ready for JSON.

    Raises:
        UserError: a run, a search or a file of translations is missing or damaged.
    """
    settings = ablation.corpora[corpus]
    facts = read_json(ablation.results(corpus) / "corpus.json")
    outputs = {
        (variant, seed): read_translations(ablation.translations(variant, seed, "test"))
        for variant in ablation.variants(corpus)
        for seed in settings.seeds
    }
    names = {f"{variant.attention} seed {seed}": rows for (variant, seed), rows in outputs.items()}
    test = make_test_set(names, settings.edges, facts["source"], facts["target"])
    draws = make_draws(test, ablation.settings.resamples)
    hypotheses = {
        variant: [[row.hypothesis for row in outputs[variant, seed]] for seed in settings.seeds]
        for variant in ablation.variants(corpus)
    }
    measured = {variant: measure(found, test, draws) for variant, found in hypotheses.items()}
    baseline = ablation.variant(corpus, ablation.settings.baseline)
    variants = {
        variant.attention: {
            **_describe(ablation, variant),
            **_score(ablation, variant, hypotheses[variant], measured[variant], test),
        }
        for variant in measured
    }
    for variant, own in measured.items():
        if variant != baseline:
            compared = compare_measured(own, measured[baseline], list(measured.values()))
            variants[variant.attention]["difference"] = compared
    return {
        "corpus": facts,
        "baseline": baseline.attention,
        "resamples": ablation.settings.resamples,
        "converged": ablation.settings.converged,
        "floor": ablation.settings.floor,
        "sentences": len(test.rows),
        "buckets": [
            {
                "source_words": list(bounds),
                "sentences": len(test.inside(bucket)),
                "mean_source_words": float(test.source_words[test.inside(bucket)].mean())
                if len(test.inside(bucket))
                else None,
            }
            for bucket, bounds in enumerate(test.bounds)
        ],
        "variants": variants,
        "slopes": _slopes(ablation, baseline, measured, variants, test),
        "pairs": _pairs(variants, measured),
        "examples": _examples(test, hypotheses, ablation.settings.examples),
    }


def _describe(ablation: Ablation, variant: Variant) -> dict[str, Any]:
    """Return what a variant is, what it cost, and how its trainings went."""
    seeds = ablation.corpora[variant.corpus].seeds
    runs = [FinishedRun.open(ablation.run(variant, seed).path) for seed in seeds]
    metrics = [run.metrics for run in runs]
    config = runs[0].config
    with torch.device("meta"):  # Its sizes, not its weights.
        attention = build_model(config, 8, 8, joint=True).decoder.attention
    convergence = [asdict(judge_convergence(run, ablation.settings.converged)) for run in runs]
    curves = [asdict(run.dev_curves) for run in runs]
    tuned = read_tuned(ablation.tuned(variant))
    return {
        "attention": variant.attention,
        "config": {name: value for name, value in config.items() if name not in PLACES},
        "differs_by": {
            "score": config["attention"]["name"],
            "query": config["decoder"]["query"],
            "source order": "reversed" if config["encoder"]["reverse_source"] else "as it is",
            "context into the RNN": config["decoder"]["query"] == "previous" and attention.context_size > 0,
            "context width": attention.context_size,
        },
        "parameters": metrics[0].parameters,
        "seeds": seeds,
        "train_target_tokens": [one.train_target_tokens for one in metrics],
        "train_target_tokens_per_second": [one.train_target_tokens_per_second for one in metrics],
        "train_seconds": [one.train_seconds for one in metrics],
        "commits": sorted({str(one.commit) for one in metrics}),
        "dirty": any(one.dirty for one in metrics),
        "machine": metrics[0].machine,
        "threads": sorted({one.machine["threads"] for one in metrics}),
        "dev": [asdict(one.dev) for one in metrics],
        "convergence": convergence,
        "curves": curves,
        "tuned": {
            "chosen": tuned.chosen,
            "candidates": tuned.candidates,
            "seconds": sum(candidate["seconds"] for candidate in tuned.candidates),
        },
    }


def _score(
    ablation: Ablation, variant: Variant, hypotheses: Sequence[Sequence[str]], measured: Measured, test: TestSet
) -> dict[str, Any]:
    """Return a variant's scores: means over seeds, their spread, intervals over sentences, by bucket."""
    edges = ablation.corpora[variant.corpus].edges
    scores = [
        scoring.score(
            output,
            [row.reference for row in test.rows],
            [row.source for row in test.rows],
            test.source_words.tolist(),
            edges=edges,
            target_language=test.target_language,
        )
        for output in hypotheses
    ]
    buckets = [
        {
            "source_words": list(bounds),
            "bleu": score_summary(measured.buckets[bucket]) if bucket in measured.buckets else None,
            "bleu_by_seed": [one["buckets"][bucket]["bleu"] for one in scores],
            "copy_bleu": scores[0]["buckets"][bucket]["copy_bleu"],
            **{
                name: _mean([one["buckets"][bucket][name] for one in scores])
                for name in ("chrf", "brevity_penalty", "length_ratio")
            },
        }
        for bucket, bounds in enumerate(test.bounds)
    ]
    return {
        "bleu": score_summary(measured.whole),
        "bleu_by_seed": measured.whole.value.tolist(),
        "chrf_by_seed": [one["chrf"] for one in scores],
        **{name: _mean([one[name] for one in scores]) for name in ("chrf", "brevity_penalty", "length_ratio")},
        "copy_bleu": scores[0]["copy_bleu"],
        "signature": scores[0]["signature"],
        "chrf_signature": scores[0]["chrf_signature"],
        "buckets": buckets,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _slopes(
    ablation: Ablation,
    baseline: Variant,
    measured: Mapping[Variant, Measured],
    variants: Mapping[str, Mapping[str, Any]],
    test: TestSet,
) -> dict[str, Any]:
    """Return, for each variant, by how many BLEU its lead over the baseline grows with 10 more source words.

    Refused, with the reason, where the baseline has not learnt enough for its curve to say something of its neck.
    """
    own = variants[baseline.attention]
    if not all(one["converged"] for one in own["convergence"]):
        return {"refused": f"{baseline.attention} has not converged: its curve shows what it has not learnt yet"}
    if own["bleu"]["mean"] < ablation.settings.floor:
        return {
            "refused": f"{baseline.attention} scores {own['bleu']['mean']:.1f} BLEU, under the floor of "
            f"{ablation.settings.floor:g}: it has not learnt to translate, at any length"
        }
    scorable = sum(bucket.scorable for bucket in measured[baseline].buckets.values())
    if scorable < 2:
        return {"refused": f"a slope over length needs two buckets with intervals, and there is {scorable}"}
    slopes = {variant: slope_of(one, test) for variant, one in measured.items()}
    seeds = pool(list(slopes.values()))
    return {
        variant.attention: asdict(compare(one, slopes[baseline], seeds))
        for variant, one in slopes.items()
        if variant != baseline
    }


def _pairs(variants: Mapping[str, Mapping[str, Any]], measured: Mapping[Variant, Measured]) -> list[dict[str, Any]]:
    """Return what each two variants differ in, and the difference in BLEU of those that differ in one thing."""
    of = {variant.attention: one for variant, one in measured.items()}
    names, pairs = list(variants), []
    seeds = pool([each.whole for each in measured.values()])
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            mine, theirs = variants[one]["differs_by"], variants[other]["differs_by"]
            things = [thing for thing in mine if mine[thing] != theirs[thing]]
            pair: dict[str, Any] = {"one": one, "other": other, "differ_in": things}
            if len(things) == 1:
                pair["difference"] = asdict(compare(of[one].whole, of[other].whole, seeds))
            pairs.append(pair)
    return pairs


def _examples(
    test: TestSet, hypotheses: Mapping[Variant, Sequence[Sequence[str]]], number: int
) -> list[dict[str, Any]]:
    """Return sentences at even ranks of length, short to long, as the first seed of each variant translates them."""
    order = np.argsort(test.source_words, kind="stable")
    ranks = np.linspace(0, len(order) - 1, num=number + 2).round().astype(int)[1:-1]
    return [
        {
            "id": test.rows[index].id,
            "source": test.rows[index].source,
            "reference": test.rows[index].reference,
            "source_words": int(test.source_words[index]),
            "translations": {variant.attention: found[0][index] for variant, found in hypotheses.items()},
        }
        for index in order[ranks].tolist()
    ]
