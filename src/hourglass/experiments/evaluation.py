"""Evaluate the variants of an ablation on one corpus: scores, differences, intervals, convergence, slopes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from hourglass.analysis.comparing import (
    BleuByLength,
    TestSet,
    bleu_by_length,
    compare_bleu,
    length_slope,
    make_draws,
    make_test_set,
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
from hourglass.config.differences import PLACES
from hourglass.config.options import Config
from hourglass.corpora.overlap import CorpusOverlap
from hourglass.errors import UserError
from hourglass.experiments.ablation import REMEDY, Ablation, Variant
from hourglass.metrics import scoring
from hourglass.metrics.significance import Difference, Quantity, compare_quantities, pool
from hourglass.models.build import build_model
from hourglass.runs.translations import read_translations
from hourglass.training.finished import FinishedRun


def evaluate(ablation: Ablation, corpus: str) -> Evaluation:
    """Evaluate the variants of a corpus.

    Raises:
        UserError: a run, a search, a file of translations or that of the overlap is missing or damaged.
    """
    settings, facts, overlap = ablation.corpora[corpus], ablation.facts(corpus), ablation.overlap(corpus)
    outputs = {
        (variant, seed): read_translations(ablation.translations(variant, seed, "test"))
        for variant in ablation.variants(corpus)
        for seed in ablation.seeds(variant)
    }
    halves = _open_halves(ablation, corpus)
    names = {f"{variant.name} seed {seed}": rows for (variant, seed), rows in outputs.items()}
    names |= {f"{variant.name} with half the budget": half.translations for variant, half in halves.items()}
    test = make_test_set(names, settings.edges, facts.source, facts.target)
    if [row.id for row in test.rows] != overlap.ids["test"]:
        raise UserError(f"{ablation.overlap_file(corpus)}: not of the sentences that were translated: run {REMEDY}")
    draws = make_draws(test, ablation.settings.resamples)
    hypotheses = {
        variant: [[row.hypothesis for row in outputs[variant, seed]] for seed in ablation.seeds(variant)]
        for variant in ablation.variants(corpus)
    }
    bleu = {variant: bleu_by_length(output, test, draws) for variant, output in hypotheses.items()}
    baseline = ablation.variant(corpus, ablation.settings.baseline)
    variants = {
        variant: _evaluate_variant(ablation, variant, hypotheses[variant], own, test) for variant, own in bleu.items()
    }
    others = {variant: baseline for variant in bleu if variant != baseline}
    for variant, difference in compare_bleu(bleu, others).items():
        variants[variant] = replace(variants[variant], difference=difference)
    for variant, half in halves.items():
        output = [row.hypothesis for row in half.translations]
        of_half = bleu_by_length([output], test, draws).whole
        variants[variant] = replace(
            variants[variant], doubling=_judge_doubling(ablation, variant, half, of_half, bleu[variant].whole)
        )
    refused = _refuse_slopes(ablation, variants[baseline], bleu[baseline])
    return Evaluation(
        corpus=facts,
        baseline=baseline.name,
        resamples=ablation.settings.resamples,
        converged=ablation.settings.converged,
        floor=ablation.settings.floor,
        sentences=len(test.rows),
        buckets=_count_buckets(test),
        variants={variant.name: result for variant, result in variants.items()},
        slopes={} if refused else _compare_slopes(baseline, bleu, test),
        slopes_refused=refused,
        pairs=_pair_up(variants, bleu),
        examples=_choose_examples(test, hypotheses, ablation.settings.examples),
        clean_part=_score_clean_part(ablation, overlap, test, hypotheses, others) if facts.leaks_removed else None,
    )


def _open_halves(ablation: Ablation, corpus: str) -> dict[Variant, FinishedRun]:
    """Return the run of each variant's first seed with half the largest budget; none if the ladder has no such rung."""
    *smaller, last = ablation.corpora[corpus].budgets
    if not smaller or smaller[-1] != last // 2:
        return {}
    return {
        variant: FinishedRun.open(ablation.rung(variant, ablation.seeds(variant)[0], smaller[-1]).path)
        for variant in ablation.variants(corpus)
    }


def _judge_doubling(
    ablation: Ablation, variant: Variant, half: FinishedRun, of_half: Quantity, of_whole: Quantity
) -> Doubling:
    """Compare the run with half the budget with that of the first seed, which is its own."""
    first = replace(of_whole, value=of_whole.value[:1], drawn=of_whole.drawn[:1])
    whole = FinishedRun.open(ablation.run(variant, ablation.corpora[variant.corpus].seeds[0]).path)
    difference = compare_quantities(first, of_half, pool([]))
    return judge_doubling(half, whole, ablation.settings.converged, of_half.mean, difference)


def _score_clean_part(
    ablation: Ablation,
    overlap: CorpusOverlap,
    test: TestSet,
    hypotheses: Mapping[Variant, Sequence[Sequence[str]]],
    baselines: Mapping[Variant, Variant],
) -> CleanPart | None:
    """Return scores and differences on the sentences whose target shares no n-gram with a training target."""
    clean = [index for index, covered in enumerate(overlap.sides["test"]["target"].covered) if covered == 0]
    if not clean:
        return None
    rows, source_words = [test.rows[index] for index in clean], test.source_words[clean]
    part = replace(test, rows=rows, source_words=source_words, bounds=[])
    draws = make_draws(part, ablation.settings.resamples)
    bleu = {
        variant: bleu_by_length([[output[index] for index in clean] for output in outputs], part, draws)
        for variant, outputs in hypotheses.items()
    }
    differences = compare_bleu(bleu, baselines)
    return CleanPart(
        sentences=len(clean),
        mean_source_words=float(source_words.mean()),
        variants={
            variant.name: CleanScores(
                own.whole.estimate, differences[variant].whole if variant in differences else None
            )
            for variant, own in bleu.items()
        },
    )


def _count_buckets(test: TestSet) -> list[SentenceBucket]:
    inside = [test.inside(bucket) for bucket in range(len(test.bounds))]
    return [
        SentenceBucket(bounds, len(rows), float(test.source_words[rows].mean()) if len(rows) else None)
        for bounds, rows in zip(test.bounds, inside, strict=True)
    ]


def _evaluate_variant(
    ablation: Ablation,
    variant: Variant,
    hypotheses: Sequence[Sequence[str]],
    bleu: BleuByLength,
    test: TestSet,
) -> VariantResult:
    """Return what a variant is, what it cost, how its trainings went, and its scores, without a difference."""
    settings = ablation.corpora[variant.corpus]
    seeds = ablation.seeds(variant)
    runs = ablation.open_runs(variant, settings.budgets[-1])
    scores = [
        scoring.score(
            output,
            [row.reference for row in test.rows],
            [row.source for row in test.rows],
            test.source_words.tolist(),
            edges=settings.edges,
            target_language=test.target_language,
        )
        for output in hypotheses
    ]
    first = runs[0]
    chrf, brevity_penalty, length_ratio = (
        float(np.mean([score[name] for score in scores])) for name in ("chrf", "brevity_penalty", "length_ratio")
    )
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
                chrf=score["chrf"],
            )
            for seed, run, score in zip(seeds, runs, scores, strict=True)
        ],
        bleu=bleu.whole.estimate,
        chrf=chrf,
        brevity_penalty=brevity_penalty,
        length_ratio=length_ratio,
        copy_bleu=scores[0]["copy_bleu"],
        signature=scores[0]["signature"],
        chrf_signature=scores[0]["chrf_signature"],
        buckets=[
            BucketScores(
                bleu=bleu.buckets[bucket].estimate if bucket in bleu.buckets else None,
                copy_bleu=scores[0]["buckets"][bucket]["copy_bleu"],
                chrf=_mean([score["buckets"][bucket]["chrf"] for score in scores]),
                brevity_penalty=_mean([score["buckets"][bucket]["brevity_penalty"] for score in scores]),
                length_ratio=_mean([score["buckets"][bucket]["length_ratio"] for score in scores]),
            )
            for bucket in range(len(test.bounds))
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
        "encoder directions": config["encoder"].get("bidirectional", True),
        "source order": "reversed" if config["encoder"]["reverse_source"] else "as it is",
        "context into the RNN": config["decoder"]["query"] == "previous" and attention.context_size > 0,
        "context width": attention.context_size,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _refuse_slopes(ablation: Ablation, baseline: VariantResult, bleu: BleuByLength) -> str | None:
    """Return why slopes over length would say nothing about the baseline's fixed vector; None where they would."""
    name = ablation.settings.baseline
    if not baseline.converged:
        verdict = describe_verdict(baseline.converged)
        return f"variant {name} {verdict}, so its length curve may show missing training as well"
    if baseline.bleu.mean < ablation.settings.floor:
        return (
            f"variant {name} scores {baseline.bleu.mean:.1f} BLEU, below the floor of {ablation.settings.floor:g}: it "
            "has not learnt to translate at any length"
        )
    scorable = sum(bucket.scorable for bucket in bleu.buckets.values())
    if scorable < 2:
        return f"a slope over length needs two buckets with intervals, and there is {scorable}"
    return None


def _compare_slopes(baseline: Variant, bleu: Mapping[Variant, BleuByLength], test: TestSet) -> dict[str, Difference]:
    """Return, for each variant, how many BLEU its lead over the baseline grows per 10 more source words."""
    slopes = {variant: length_slope(own, test) for variant, own in bleu.items()}
    seeds = pool(list(slopes.values()))
    return {
        variant.name: compare_quantities(own, slopes[baseline], seeds)
        for variant, own in slopes.items()
        if variant != baseline
    }


def _pair_up(variants: Mapping[Variant, VariantResult], bleu: Mapping[Variant, BleuByLength]) -> list[VariantPair]:
    """Return in what each two variants differ, and the difference in BLEU of those that differ in one trait."""
    seeds = pool([own.whole for own in bleu.values()])
    pairs = []
    for number, first in enumerate(variants):
        for second in list(variants)[number + 1 :]:
            of_first, of_second = variants[first].traits, variants[second].traits
            traits = [trait for trait in of_first if of_first[trait] != of_second[trait]]
            difference = compare_quantities(bleu[first].whole, bleu[second].whole, seeds) if len(traits) == 1 else None
            pairs.append(VariantPair(first.name, second.name, traits, difference))
    return pairs


def _choose_examples(
    test: TestSet, hypotheses: Mapping[Variant, Sequence[Sequence[str]]], number: int
) -> list[TranslatedSentence]:
    """Return sentences at even ranks of length, short to long, with the translations of each variant's first seed."""
    order = np.argsort(test.source_words, kind="stable")
    ranks = np.linspace(0, len(order) - 1, num=number + 2).round().astype(int)[1:-1]
    return [
        TranslatedSentence(
            id=test.rows[index].id,
            source=test.rows[index].source,
            reference=test.rows[index].reference,
            source_words=int(test.source_words[index]),
            translations={variant.name: outputs[0][index] for variant, outputs in hypotheses.items()},
        )
        for index in order[ranks].tolist()
    ]
