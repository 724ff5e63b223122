"""Evaluate the variants of an ablation on one corpus: scores, differences, intervals, convergence, slopes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from hourglass.analysis.comparing import (
    ScoreByLength,
    SentenceLengths,
    compare_scores,
    length_slope,
    make_draws,
    score_from_sentences,
)
from hourglass.analysis.convergence import Doubling, describe_verdict, judge_convergence, judge_doubling
from hourglass.analysis.evaluation import (
    BucketScores,
    CleanPart,
    CleanScores,
    Evaluation,
    SeedResult,
    SentenceBucket,
    TranslatedSentence,
    VariantPair,
    VariantResult,
)
from hourglass.analysis.sentence_scores import SentenceScores, TestScores, lines_digest
from hourglass.config.differences import PLACES
from hourglass.config.options import Config
from hourglass.corpora.overlap import CorpusOverlap
from hourglass.errors import UserError
from hourglass.experiments.ablation import Ablation, Variant
from hourglass.metrics.metric import Metric, facts_of
from hourglass.metrics.scoring import main_of
from hourglass.metrics.significance import Difference, Quantity, compare_quantities, pool
from hourglass.models.build import build_model
from hourglass.training.finished import FinishedRun
from hourglass.training.freezing import has_frozen_encoder


def evaluate(ablation: Ablation, corpus: str) -> Evaluation:
    """Evaluate the variants of a corpus, from what is kept of their runs.

    Raises:
        UserError: what is kept of a run, a search, or the overlap with train is missing or damaged.
    """
    settings, facts, overlap = ablation.corpora[corpus], ablation.facts(corpus), ablation.overlap(corpus)
    kept = ablation.scores(corpus, settings.budgets[-1])
    half_budget = _half_budget(settings.budgets)
    halves = {
        variant: ablation.sentence_scores(variant, ablation.seeds(variant)[0], half_budget)
        for variant in (kept if half_budget else [])
    }
    metric = ablation.metrics(corpus).main
    lengths = shared_lengths(ablation, corpus, metric, [*kept.values(), *([half] for half in halves.values())])
    if kept[ablation.variants(corpus)[0]][0].whole.ids_digest != lines_digest(overlap.ids["test"]):
        raise UserError(
            f"{ablation.overlap_file(corpus)}: not of the sentences that were translated: run {ablation.remedy}"
        )
    draws = make_draws(lengths, ablation.settings.resamples)
    scores = {
        variant: score_from_sentences(metric, [own.statistics for own in seeds], lengths, draws)
        for variant, seeds in kept.items()
    }
    baseline = ablation.variant(corpus, ablation.settings.baseline)
    variants = {
        variant: _evaluate_variant(ablation, variant, [each.whole for each in kept[variant]], own)
        for variant, own in scores.items()
    }
    others = {variant: baseline for variant in scores if variant != baseline}
    for variant, difference in compare_scores(scores, others).items():
        variants[variant] = replace(variants[variant], difference=difference)
    for variant, half in halves.items():
        of_half = score_from_sentences(metric, [half.statistics], lengths, draws).whole
        doubling = _judge_doubling(ablation, variant, half_budget, of_half, scores[variant].whole)
        variants[variant] = replace(variants[variant], doubling=doubling)
    refused = _refuse_slopes(ablation, metric, variants[baseline], scores[baseline])
    return Evaluation(
        corpus=replace(facts, name=corpus),  # Several corpora of an ablation may be splits of one, such as scan.
        baseline=baseline.name,
        resamples=ablation.settings.resamples,
        converged=ablation.settings.converged,
        floor=ablation.settings.floor,
        metrics=facts_of(next(iter(kept.values()))[0].whole.scores),
        sentences=len(lengths.source_words),
        buckets=_count_buckets(lengths),
        variants={variant.name: result for variant, result in variants.items()},
        slopes={} if refused else _compare_slopes(baseline, scores, lengths),
        slopes_refused=refused,
        pairs=_pair_up(variants, scores),
        examples=_gather_examples([seeds[0].whole for seeds in kept.values()]),
        clean_part=_score_clean_part(ablation, metric, overlap, kept, others) if facts.leaks_removed else None,
    )


def shared_lengths(
    ablation: Ablation, corpus: str, metric: Metric, kept: Iterable[Sequence[SentenceScores]]
) -> SentenceLengths:
    """Return the lengths of the sentences that all runs have translated.

    Args:
        ablation: whose runs they are.
        corpus: of which.
        metric: its main one.
        kept: what is kept of runs.

    Raises:
        UserError: two runs have translated different sentences, or one is scored by another metric.
    """
    first, *others = [scores for seeds in kept for scores in seeds]
    for scores in (first, *others):
        if (own := main_of(scores.whole.scores)) != metric.name:
            raise UserError(
                f"{ablation.results(corpus) / 'runs'}: scored by {own}, and metrics.main of data={corpus} is "
                f"{metric.name}: run {ablation.remedy}"
            )
    if any(scores.whole.test_digest != first.whole.test_digest for scores in others):
        raise UserError(
            f"{ablation.results(corpus) / 'runs'}: its runs do not translate the same sentences: run {ablation.remedy}"
        )
    return first.lengths


def _half_budget(budgets: Sequence[int]) -> int:
    """Return half the largest budget; 0 if the ladder has no such rung."""
    *smaller, last = budgets
    return smaller[-1] if smaller and smaller[-1] == last // 2 else 0


def _judge_doubling(
    ablation: Ablation, variant: Variant, half_budget: int, of_half: Quantity, of_whole: Quantity
) -> Doubling:
    """Compare the run with half the budget with that of the first seed, which is its own."""
    first = replace(of_whole, value=of_whole.value[:1], drawn=of_whole.drawn[:1])
    seed, budget = ablation.seeds(variant)[0], ablation.corpora[variant.corpus].budgets[-1]
    half, whole = (FinishedRun.open(ablation.kept(variant, seed, each).path) for each in (half_budget, budget))
    difference = compare_quantities(first, of_half, pool([]))
    return judge_doubling(half, whole, ablation.settings.converged, of_half.mean, difference)


def _score_clean_part(
    ablation: Ablation,
    metric: Metric,
    overlap: CorpusOverlap,
    kept: Mapping[Variant, Sequence[SentenceScores]],
    baselines: Mapping[Variant, Variant],
) -> CleanPart | None:
    """Return scores and differences on the sentences whose target shares no n-gram with a training target."""
    clean = [index for index, covered in enumerate(overlap.sides["test"]["target"].covered) if covered == 0]
    if not clean:
        return None
    source_words = next(iter(kept.values()))[0].source_words[clean]
    part = SentenceLengths(source_words, bounds=[])
    draws = make_draws(part, ablation.settings.resamples)
    of_variants = {
        variant: score_from_sentences(metric, [scores.statistics[clean] for scores in seeds], part, draws)
        for variant, seeds in kept.items()
    }
    differences = compare_scores(of_variants, baselines)
    return CleanPart(
        sentences=len(clean),
        mean_source_words=float(source_words.mean()),
        variants={
            variant.name: CleanScores(
                own.whole.estimate, differences[variant].whole if variant in differences else None
            )
            for variant, own in of_variants.items()
        },
    )


def _count_buckets(lengths: SentenceLengths) -> list[SentenceBucket]:
    inside = [lengths.inside(bucket) for bucket in range(len(lengths.bounds))]
    return [
        SentenceBucket(bounds, len(rows), float(lengths.source_words[rows].mean()) if len(rows) else None)
        for bounds, rows in zip(lengths.bounds, inside, strict=True)
    ]


def _evaluate_variant(
    ablation: Ablation, variant: Variant, kept: Sequence[TestScores], score: ScoreByLength
) -> VariantResult:
    """Return what a variant is, what it cost, how its trainings went, and its scores, without a difference."""
    settings = ablation.corpora[variant.corpus]
    seeds = ablation.seeds(variant)
    runs = ablation.open_runs(variant, settings.budgets[-1])
    scores = [own.scores for own in kept]
    first = runs[0]
    main, *others = facts_of(scores[0])
    return VariantResult(
        config={name: value for name, value in first.config.items() if name not in PLACES},
        traits=_traits(first.config),
        parameters=first.metrics.parameters,
        commits=sorted({str(run.metrics.commit) for run in runs}),
        dirty=any(run.metrics.dirty for run in runs),
        machine=first.metrics.machine,
        threads=sorted({run.metrics.machine["threads"] for run in runs}),
        tuning=ablation.tuning(variant),
        seeds=[
            SeedResult(
                seed=seed,
                target_tokens=run.metrics.train_target_tokens,
                target_tokens_per_second=run.metrics.train_target_tokens_per_second,
                seconds=run.metrics.train_seconds,
                dev=run.metrics.dev,
                convergence=judge_convergence(run, ablation.settings.converged),
                curves=run.dev_curves,
                others={name: own[name] for name in others},
            )
            for seed, run, own in zip(seeds, runs, scores, strict=True)
        ],
        score=score.whole.estimate,
        others={name: _mean([own[name] for own in scores]) for name in others},
        brevity_penalty=_mean([own.get("brevity_penalty") for own in scores]),
        length_ratio=_mean([own.get("length_ratio") for own in scores]),
        premature=_mean([own.get("premature") for own in scores]),
        copied=scores[0].get(f"copy_{main}"),
        buckets=[
            BucketScores(
                score=estimate,
                copied=scores[0]["buckets"][bucket].get(f"copy_{main}"),
                brevity_penalty=_mean([own["buckets"][bucket].get("brevity_penalty") for own in scores]),
                length_ratio=_mean([own["buckets"][bucket].get("length_ratio") for own in scores]),
                premature=_mean([own["buckets"][bucket].get("premature") for own in scores]),
            )
            for bucket, estimate in enumerate(score.estimates(len(settings.edges)))
        ],
        difference=None,
    )


def _traits(config: Config) -> dict[str, str | bool | int]:
    """Return the traits in which variants may differ; of what a search chooses, only the order of the source is one."""
    with torch.device("meta"):  # The sizes, without memory for the weights.
        attention = build_model(config, 8, 8, joint=True).decoder.attention
    return {
        "score": config["attention"]["name"],
        "query": config["decoder"]["query"],
        "encoder": " ".join(str(config["encoder"].get(key, "")) for key in ("name", "cell")),
        "encoder frozen": has_frozen_encoder(config),
        "encoder directions": config["encoder"].get("bidirectional", True),
        "source order": "reversed" if config["encoder"].get("reverse_source") else "as it is",
        "context into the RNN": config["decoder"]["query"] == "previous" and attention.context_size > 0,
        # One trait, as the context of `fixed` is the vector.
        "vector or context width": f"{config['encoder']['summary_size']}, {attention.context_size}",
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _refuse_slopes(ablation: Ablation, metric: Metric, baseline: VariantResult, score: ScoreByLength) -> str | None:
    """Return why slopes over length would say nothing about the baseline's fixed vector; None where they would."""
    name = ablation.settings.baseline
    if not baseline.converged:
        verdict = describe_verdict(baseline.converged)
        return f"variant {name} {verdict}, so its length curve may show missing training as well"
    floor = ablation.settings.floor if metric.higher_is_better else 100 - ablation.settings.floor
    if metric.is_better(floor, baseline.score.mean):
        side = "below the floor" if metric.higher_is_better else "above the ceiling"
        return (
            f"variant {name} scores {baseline.score.mean:.1f} {metric.title}, {side} of {floor:g}: it has not learnt "
            "its task at any length"
        )
    scorable = sum(bucket.scorable for bucket in score.buckets.values())
    if scorable < 2:
        return f"a slope over length needs two buckets with intervals, and there is {scorable}"
    return None


def _compare_slopes(
    baseline: Variant, scores: Mapping[Variant, ScoreByLength], lengths: SentenceLengths
) -> dict[str, Difference]:
    """Return, for each variant, by how much its difference to the baseline grows per 10 more source words."""
    slopes = {variant: length_slope(own, lengths) for variant, own in scores.items()}
    seeds = pool(list(slopes.values()))
    return {
        variant.name: compare_quantities(own, slopes[baseline], seeds)
        for variant, own in slopes.items()
        if variant != baseline
    }


def _pair_up(variants: Mapping[Variant, VariantResult], scores: Mapping[Variant, ScoreByLength]) -> list[VariantPair]:
    """Return in what each two variants differ, and the difference in score of those that differ in one trait."""
    seeds = pool([own.whole for own in scores.values()])
    pairs = []
    for number, first in enumerate(variants):
        for second in list(variants)[number + 1 :]:
            of_first, of_second = variants[first].traits, variants[second].traits
            traits = [trait for trait in of_first if of_first[trait] != of_second[trait]]
            both = scores[first].whole, scores[second].whole
            difference = compare_quantities(*both, seeds) if len(traits) == 1 else None
            pairs.append(VariantPair(first.name, second.name, traits, difference))
    return pairs


def _gather_examples(kept: Sequence[TestScores]) -> list[TranslatedSentence]:
    """Return the sentences whose text is kept, with the translations of all variants."""
    return [
        replace(same[0], translations={name: text for each in same for name, text in each.translations.items()})
        for same in zip(*(scores.examples for scores in kept), strict=True)
    ]
