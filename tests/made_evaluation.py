"""Evaluations and ladders made up for each statement of the ablation's report, without any training."""

from dataclasses import replace
from typing import Any

from hourglass.analysis.convergence import Convergence, Doubling
from hourglass.analysis.evaluation import (
    REVERSED_SOURCE,
    BucketScores,
    Candidate,
    CorpusFacts,
    Evaluation,
    ScoreDifference,
    SeedResult,
    SentenceBucket,
    TokenizerFacts,
    TranslatedSentence,
    Tuning,
    VariantPair,
    VariantResult,
)
from hourglass.analysis.information import BitsDifference
from hourglass.analysis.ladder import Course, GapCourse, Ladder, Rung, RungScores
from hourglass.metrics.metric import MetricFacts
from hourglass.metrics.significance import AdjustedDifference, Difference, Estimate, Interval
from hourglass.training.finished import DevCurves, DevScores

BUDGET = 4_000_000
BUCKETS = [SentenceBucket((1, 5), 200, 3.0), SentenceBucket((6, None), 40, 9.0), SentenceBucket((60, None), 0, None)]
MACHINE = {"gpu": None, "processor": "a processor", "threads": 1, "torch": "2"}


def estimate(mean: float, seeds: int) -> Estimate:
    values = [mean + place - (seeds - 1) / 2 for place in range(seeds)]
    return Estimate(mean, values, Interval(mean - 1, mean + 1), Interval(mean - 3, mean + 3) if seeds > 1 else None)


def score_difference(value: float, half: float | None, seeds: int) -> AdjustedDifference:
    """Of two variants with so many seeds, 0 where no variant has two; half None: too few sentences for an interval."""
    if half is None:
        return AdjustedDifference(value, None, None, None, None, None)
    near, far = Interval(value - half / 2, value + half / 2), Interval(value - half, value + half)
    return AdjustedDifference(value, near, far if seeds else None, far if seeds > 1 else None, 0.01, 0.02)


def made_variant(attention: str, score: float, lead: float | None = None, **changes: Any) -> VariantResult:
    """Return a variant with three seeds, or `seeds`; `half` is half the width of the interval of its lead."""
    seeds, half = changes.pop("seeds", 3), changes.pop("half", 5.0)
    rates = changes.pop("rates", [0.001, 0.002, 0.004])
    loss = 2.0 if attention != "none" else 3.0
    curve = [(share * BUDGET, loss + 1 - share) for share in (0.2, 0.4, 0.6, 0.8, 1.0)]
    candidates = [Candidate([f"optimizer.learning_rate={rate}"], 2.0 + rate, BUDGET, 60.0) for rate in rates]
    whole = None if lead is None else score_difference(lead, half, seeds)
    by_length = {} if lead is None else {place: score_difference(lead + place, half, seeds) for place in (0, 1)}
    doubled = Difference(1.0, Interval(0, 2), None, None, 0.1)
    made = VariantResult(
        config={
            "data": {"name": "kjv_web"},
            "attention": {"name": attention},
            "encoder": {"name": "rnn", "summary_size": 8, "hidden_size": 8},
            "decoder": {"start": "dense", "cell": "lstm", "query": "current", "layers": 1, "hidden_size": 8},
            "trainer": {"precision": "32-true"},
        },
        traits={"score": attention},
        parameters=1000,
        commits=["c" * 40],
        dirty=False,
        machine=MACHINE,
        threads=[1],
        tuning=Tuning(candidates[len(candidates) // 2].overrides, candidates),
        seeds=[
            SeedResult(
                seed=place + 1,
                target_tokens=BUDGET,
                target_tokens_per_second=10.0,
                seconds=600.0,
                dev=DevScores(loss, "bleu", score, 100),
                convergence=Convergence(True, 0.001),
                curves=DevCurves(curve, [], []),
                others={},
            )
            for place in range(seeds)
        ],
        score=estimate(score, seeds),
        others={},
        brevity_penalty=0.9,
        length_ratio=0.95,
        premature=None,
        copied=5.0,
        buckets=[BucketScores(estimate(score + place, seeds), 5.0, 0.9, 0.95, None) for place in (0, 1)]
        + [BucketScores(None, None, None, None, None)],
        difference=None if whole is None else ScoreDifference(whole, by_length),
        doubling=Doubling(1, BUDGET // 2, 2.1, 0.005, score - 1, doubled, converged=True),
    )
    return replace(made, **changes)


def made_evaluation(name: str = "verses", **changes: Any) -> Evaluation:
    """Return none, fixed and an attention, to which nothing can be objected, and a control; see `made_variant`."""
    variants = {
        "none": made_variant("none", 10.0),
        "fixed": made_variant("fixed", 20.0, 10.0),
        "luong_general": made_variant("luong_general", 60.0, 50.0),
        "forward": made_variant("none", 8.0, -2.0, seeds=1),
    }
    names = list(variants)
    made = Evaluation(
        corpus=CorpusFacts(
            name=name,
            source="en",
            target="fr",
            pairs={"train": 1000, "dev": 50, "test": 240},
            source_words={"train": 1, "dev": 1, "test": 1},
            target_words={"train": 1, "dev": 1, "test": 1},
            dropped={"leak": 1},
            leaks_removed=True,
            dev_pairs_in_test=0,
            digest="d" * 64,
            leaks=0,
            tokenizer=TokenizerFacts("t" * 64, 50, joint=True),
            target_tokens={"train": 1, "dev": 1, "test": 1},
            source_words_of_test={3: 240},
        ),
        baseline="none",
        resamples=1000,
        converged=0.01,
        floor=5.0,
        metrics={"bleu": MetricFacts("BLEU", 2, "nrefs:1")},
        sentences=240,
        buckets=BUCKETS,
        variants=variants,
        slopes={other: score_difference(4.0, 1.0, 3) for other in names[1:]},
        slopes_refused=None,
        pairs=[
            VariantPair("none", "fixed", ["score"], score_difference(-10.0, 5.0, 3)),
            VariantPair("none", "forward", ["score", "query"], None),
        ],
        examples=[TranslatedSentence("t1", "a source", "a reference", 2, dict.fromkeys(names, "an output"))],
    )
    return replace(made, **changes)


def with_variant_result(evaluation: Evaluation, name: str, **changes: Any) -> Evaluation:
    own = replace(evaluation.variants[name], **changes)
    return replace(evaluation, variants={**evaluation.variants, name: own})


def unfinished(own: VariantResult, converged: bool | None) -> VariantResult:
    """Return a variant that had not converged, or of which that cannot be told."""
    assert own.doubling is not None
    return replace(own, doubling=replace(own.doubling, converged=converged, gain=0.1))


def reversing(own: VariantResult) -> VariantResult:
    """Return a variant whose search also tried the source in reverse order."""
    first = own.tuning.candidates[0]
    more = replace(first, overrides=[*first.overrides, REVERSED_SOURCE])
    return replace(own, tuning=replace(own.tuning, candidates=[*own.tuning.candidates, more]))


def made_ladder(
    course: Course, closes_at: float | None = None, rungs: int = 2, half: float | None = 1.0, corpus: str = "verses"
) -> Ladder:
    """Return the gap between luong_general and none, with a course over all sentences and in the only bucket."""

    def gap(value: float) -> Difference:
        interval = None if half is None else Interval(value - half, value + half)
        return Difference(value, interval, interval, None, 0.01)

    scores = {name: RungScores([2.0], estimate(10.0, 3), [estimate(10.0, 3)]) for name in ("luong_general", "none")}
    change = None if rungs < 2 else -2.0
    judged = GapCourse(course, change, None if change is None or half is None else Interval(-3.0, -1.0), closes_at)
    return Ladder(
        corpus=corpus,
        estimands=[("luong_general", "none")],
        flattened=0.05,
        lengths=[(1, None)],
        sentences=[240],
        rungs=[
            Rung(BUDGET * 2**place // 2, scores, [BitsDifference(gap(10.0 - place), [gap(10.0 - place)])], [])
            for place in range(rungs)
        ],
        whole=[judged],
        by_length=[[judged]],
    )
