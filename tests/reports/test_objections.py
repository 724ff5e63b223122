"""What can be objected follows from the numbers of the evaluation: each objection once with and once without cause."""

from types import SimpleNamespace
from typing import Any

import pytest

from hourglass.corpora.overlap import OverlapFacts
from hourglass.reports.objections import list_objections

METRIC = SimpleNamespace(heading="BLEU")


def variant(**changes: Any) -> Any:
    """A variant to which nothing can be objected."""
    seeds = [SimpleNamespace(target_tokens=1_000_000)] * changes.pop("seeds", 5)
    tokens = changes.pop("searched", 1_000_000)
    candidate = SimpleNamespace(target_tokens=tokens, dropout=None)
    tuning = SimpleNamespace(candidates=[candidate] * changes.pop("candidates", 3))
    return SimpleNamespace(
        **{"seeds": seeds, "tuning": tuning, "converged": True, "doubling": None, "parameters": 10, "copied": 1.0}
        | changes
    )


def evaluation(sharing: int = 0, rest: bool = True, **variants: Any) -> Any:
    facts = OverlapFacts(sentences=40, short=0, sharing=sharing, half_covered=0, words=400, covered=0)
    corpus = SimpleNamespace(overlap={"test": {"target": facts}})
    clean = SimpleNamespace() if rest else None
    return SimpleNamespace(variants={"none": variant(), **variants}, corpus=corpus, metric=METRIC, clean_part=clean)


def test_a_perfect_ablation_has_none() -> None:
    assert list_objections(evaluation(fixed=variant())) == []


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (
            evaluation(fixed=variant(converged=False, doubling=SimpleNamespace(gain=0.123))),
            ["After 1.0 million target tokens", "fixed 12.3 % (by how much doubling"],
        ),
        (evaluation(fixed=variant(converged=None)), ["it cannot be told: fixed. A difference"]),
        (evaluation(fixed=variant(seeds=2)), ["The variants have 2 to 5: the spread", "Student's t"]),
        (evaluation(fixed=variant(seeds=3), none=variant(seeds=3)), ["The variants have 3 each: the spread"]),
        (evaluation(fixed=variant(seeds=1)), ["fixed has one, and no spread of its own"]),
        (
            evaluation(fixed=variant(seeds=1), none=variant(seeds=1)),
            ["have one each, and no spread of their own"],
        ),
        (evaluation(fixed=variant(parameters=15)), ["fixed has 50 % more than none (15 and 10)"]),
        (
            evaluation(sharing=10, fixed=variant()),
            ["25.0 % of the test references share 8 words in a row", "reference; the scores of the rest stand beside"],
        ),
        (evaluation(sharing=40, rest=False, fixed=variant()), ["100.0 % of the test", "a training reference."]),
    ],
)
def test_each_objection_has_its_cause(of: Any, words: list[str]) -> None:
    (text,) = list_objections(of)
    assert all(part in text for part in words)


def test_the_search_and_the_task() -> None:
    short: Any = SimpleNamespace(
        variants={"none": variant(searched=100_000)}, corpus=SimpleNamespace(overlap=None), metric=METRIC
    )
    assert ["runs of 10 % of the budget" in text for text in list_objections(short)] == [True]
    never: Any = SimpleNamespace(
        variants={"none": variant(candidates=1)}, corpus=SimpleNamespace(overlap=None), metric=METRIC
    )
    assert [text.startswith("The search. No setting") for text in list_objections(never)] == [True]
    close: Any = SimpleNamespace(
        variants={"none": variant(copied=54.0)}, corpus=SimpleNamespace(overlap=None), metric=METRIC
    )
    assert ["54.0 BLEU: much of a reference can be copied" in text for text in list_objections(close)] == [True]
