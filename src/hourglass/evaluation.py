"""From the translations of an ablation to what is said of it: scores by length, differences, intervals, verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hourglass import scoring
from hourglass.ablation import Ablation, Variant, read_tuned
from hourglass.assembly import build_model
from hourglass.checkpoints import PLACES
from hourglass.corpus import count_words
from hourglass.errors import UserError
from hourglass.runs import RunFolder, Translation, open_run, read_curves, read_json, read_translations
from hourglass.significance import (
    Quantity,
    bleu_quantity,
    compare,
    converged,
    draw,
    holm,
    pool,
    slope,
)


@dataclass(frozen=True)
class TestSet:
    """The sentences that all outputs translate, and which length bucket each belongs to.

    Attributes:
        rows: id, source and reference of each sentence (the hypothesis is any output's).
        source_words: [N].
        bounds: first and last source word count of each bucket; the last is open.
        target_language: picks BLEU's tokenizer.
    """

    __test__ = False  # No test of pytest's.

    rows: list[Translation]
    source_words: np.ndarray
    bounds: list[tuple[int, int | None]]
    target_language: str

    def inside(self, bucket: int) -> np.ndarray:
        """Return the numbers of a bucket's sentences."""
        low, high = self.bounds[bucket]
        upper = np.inf if high is None else high
        return np.flatnonzero((self.source_words >= low) & (self.source_words <= upper))


@dataclass(frozen=True)
class Measured:
    """BLEU of one variant's seeds, in all and in each bucket that has sentences, on the test set and its resamples."""

    whole: Quantity
    buckets: dict[int, Quantity]


@dataclass(frozen=True)
class Draws:
    """The resamples that all variants share: of the whole test set, and of each bucket within itself."""

    whole: np.ndarray
    buckets: dict[int, np.ndarray]


def make_test_set(
    files: Mapping[str, list[Translation]], edges: Sequence[int], source_language: str, target_language: str
) -> TestSet:
    """Return the test set that outputs share.

    Args:
        files: the outputs, by name.
        edges: first source word count of each bucket.
        source_language: says how words are counted.
        target_language: picks BLEU's tokenizer.

    Raises:
        UserError: two outputs are not of the same sentences.
    """
    (first, rows), *others = files.items()
    for name, other in others:
        if [row[:3] for row in rows] != [row[:3] for row in other]:
            raise UserError(f"{first} and {name} do not translate the same sentences: give two runs of one test set")
    words = np.array([max(edges[0], count_words(row.source, source_language)) for row in rows])
    return TestSet(rows, words, scoring.length_buckets(edges), target_language)


def make_draws(test: TestSet, resamples: int) -> Draws:
    """Draw the resamples of a test set."""
    inside = {bucket: test.inside(bucket) for bucket in range(len(test.bounds))}
    return Draws(
        draw(len(test.rows), resamples), {b: draw(len(rows), resamples) for b, rows in inside.items() if len(rows)}
    )


def measure(outputs: Sequence[Sequence[str]], test: TestSet, draws: Draws) -> Measured:
    """Return BLEU of a variant's outputs, one a seed."""
    references = [row.reference for row in test.rows]
    statistics = [scoring.bleu_statistics(output, references, test.target_language) for output in outputs]
    buckets = {
        bucket: bleu_quantity([one[test.inside(bucket)] for one in statistics], counts)
        for bucket, counts in draws.buckets.items()
    }
    return Measured(bleu_quantity(statistics, draws.whole), buckets)


def compare_measured(one: Measured, other: Measured, everyone: Sequence[Measured]) -> dict[str, Any]:
    """Return the difference in all, by bucket (with Holm-adjusted p), and of the slopes; plain values.

    Args:
        one: the variant.
        other: what it is compared with.
        everyone: all variants, over which the variance of seeds is pooled.
    """
    buckets = {
        bucket: compare(one.buckets[bucket], other.buckets[bucket], pool([m.buckets[bucket] for m in everyone]))
        for bucket in one.buckets
    }
    adjusted = holm([difference.p for difference in buckets.values()])
    return {
        **asdict(compare(one.whole, other.whole, pool([m.whole for m in everyone]))),
        "buckets": {
            bucket: {**asdict(difference), "p_holm": p}
            for (bucket, difference), p in zip(buckets.items(), adjusted, strict=True)
        },
    }


def slope_of(measured: Measured, test: TestSet) -> Quantity:
    """Return the slope of a variant's length curve, BLEU per 10 source words, over buckets that have intervals."""
    buckets = {bucket: quantity for bucket, quantity in measured.buckets.items() if quantity.scorable}
    means = [float(test.source_words[test.inside(bucket)].mean()) for bucket in buckets]
    return slope(list(buckets.values()), means, [len(test.inside(bucket)) for bucket in buckets])


# ---- An ablation's corpus --------------------------------------------------------------------------------------------


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
    runs = [open_run(str(ablation.run(variant, seed).path), "run") for seed in seeds]
    metrics = [read_json(run.metrics) for run, _ in runs]
    config = runs[0][1]
    with torch.device("meta"):  # Its sizes, not its weights.
        attention = build_model(config, 8, 8, joint=True).decoder.attention
    convergence = []
    curves = []
    for (run, _), one in zip(runs, metrics, strict=True):
        dev = dev_curves(run, one["train_target_tokens"])
        done, gained = _converged(dev["loss"], one["train_target_tokens"], ablation.settings.converged)
        convergence.append({"converged": done, "gain_of_last_fifth": gained})
        curves.append({name: [[at, value] for at, value in sorted(curve.items())] for name, curve in dev.items()})
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
        "parameters": metrics[0]["parameters"],
        "seeds": seeds,
        "train_target_tokens": [one["train_target_tokens"] for one in metrics],
        "train_target_tokens_per_second": [one["train_target_tokens_per_second"] for one in metrics],
        "train_seconds": [one["train_seconds"] for one in metrics],
        "commits": sorted({str(one["commit"]) for one in metrics}),
        "dirty": any(one["dirty"] for one in metrics),
        "machine": metrics[0]["machine"],
        "threads": sorted({one["machine"]["threads"] for one in metrics}),
        "dev": [one["dev"] for one in metrics],
        "convergence": convergence,
        "curves": curves,
        "tuned": {
            "chosen": tuned.chosen,
            "candidates": tuned.candidates,
            "seconds": sum(candidate["seconds"] for candidate in tuned.candidates),
        },
    }


def dev_curves(run: RunFolder, total: int) -> dict[str, dict[float, float]]:
    """Return a run's loss and BLEU on dev by the target tokens read, of `total` in all."""
    points = read_curves(run.curves)
    tokens = {step: value for step, name, value in points if name == "train/target_tokens"}
    return {
        name: {_tokens_at(tokens, step, total): value for step, curve, value in points if curve == f"dev/{name}"}
        for name in ("loss", "bleu")
    }


def judge_convergence(run: RunFolder, gain: float) -> tuple[bool, float]:
    """Say of a run whether it had converged, and by what share the last fifth of its budget lowered the dev loss.

    Args:
        run: its folder.
        gain: a smaller share counts as converged.
    """
    total = read_json(run.metrics)["train_target_tokens"]
    return _converged(dev_curves(run, total)["loss"], total, gain)


def _converged(dev_loss: Mapping[float, float], total: int, gain: float) -> tuple[bool, float]:
    return converged({at / total: value for at, value in dev_loss.items()}, gain)


def _tokens_at(tokens: Mapping[int, float], step: int, total: int) -> float:
    """Return how many target tokens were read at a step; between points of the curve the nearest one before."""
    before = [value for at, value in tokens.items() if at <= step]
    # The last validation falls on the last step, whether or not the curve has a point there.
    last = max(tokens, default=0)
    return float(total) if step >= last else max(before, default=0.0)


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
            "bleu": _summary(measured.buckets[bucket]) if bucket in measured.buckets else None,
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
        "bleu": _summary(measured.whole),
        "bleu_by_seed": measured.whole.value.tolist(),
        "chrf_by_seed": [one["chrf"] for one in scores],
        **{name: _mean([one[name] for one in scores]) for name in ("chrf", "brevity_penalty", "length_ratio")},
        "copy_bleu": scores[0]["copy_bleu"],
        "signature": scores[0]["signature"],
        "chrf_signature": scores[0]["chrf_signature"],
        "buckets": buckets,
    }


def _summary(quantity: Quantity) -> dict[str, Any]:
    interval = quantity.interval
    return {"mean": quantity.mean, "spread": quantity.spread, "interval": asdict(interval) if interval else None}


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


def _translations(run: RunFolder) -> Path:
    """Return where a run's translations of test lie: those of an ablation in another stage's folder."""
    of_stage = run.path.resolve().parent.parent / "translations" / run.path.resolve().name / "test.tsv"
    return of_stage if of_stage.exists() and not run.translations.exists() else run.translations


def compare_runs(one: Path, other: Path, resamples: int) -> tuple[TestSet, dict[str, Any], dict[str, Any]]:
    """Compare the test translations of two run folders.

    Returns:
        the test set; the difference `one` less `other` as `compare_measured` has it; and both runs' BLEU.

    Raises:
        UserError: a folder holds no translations, or the two are not of one test set.
    """
    test, measured = measure_runs([one, other], resamples)
    first, second = measured.values()
    scores = {name: _summary(found.whole) for name, found in measured.items()}
    return test, compare_measured(first, second, [first, second]), scores


def measure_runs(paths: Sequence[Path], resamples: int) -> tuple[TestSet, dict[str, Measured]]:
    """Return the test set that run folders have translated, with the buckets of the first, and each one's BLEU.

    Raises:
        UserError: a folder holds no translations, or they are not of one test set.
    """
    runs = {str(path): open_run(str(path), "run") for path in paths}
    if len(runs) < len(paths):
        raise UserError(f"{' '.join(map(str, paths))}: the same folder twice: give different runs")
    files = {name: read_translations(_translations(run)) for name, (run, _) in runs.items()}
    config = runs[str(paths[0])][1]
    test = make_test_set(files, config["edges"], config["data"]["source"], config["data"]["target"])
    draws = make_draws(test, resamples)
    return test, {name: measure([[row.hypothesis for row in rows]], test, draws) for name, rows in files.items()}
