"""Every metric against its library over all sentences at once, or a plain loop; and what all metrics have in common."""

import json
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from helpers import compose_config
from sacrebleu.metrics import CHRF, TER
from torchmetrics.functional.text import char_error_rate, rouge_score, word_error_rate

from hourglass.errors import UserError
from hourglass.metrics.metric import facts_of, single
from hourglass.metrics.metrics import METRICS, main_metric, make_metrics
from hourglass.metrics.scoring import format_table, score
from hourglass.metrics.significance import draw_resamples, metric_quantity
from hourglass.system.project import CONF

WORDS = ["the", "a", "small", "big", "house", "dog", "bird", "sings", "river's", "3.5"]


def texts(count: int = 40) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return outputs and references: of every third sentence two references, of which the second is the closer one."""
    draw = random.Random(3)

    def disturb(words: list[str], share: float) -> list[str]:
        kept = [word for word in words if draw.random() > share / 2]
        return [draw.choice(WORDS) if draw.random() < share else word for word in kept]

    references = [[draw.choice(WORDS) for _ in range(draw.randint(4, 12))] for _ in range(count)]
    outputs = [disturb(words, 0.3) for words in references]
    return [" ".join(words) for words in outputs], [
        (" ".join(words), *([" ".join(disturb(output, 0.1) or words)] if number % 3 == 0 else []))
        for number, (words, output) in enumerate(zip(references, outputs, strict=True))
    ]


def streams(references: Sequence[Sequence[str]]) -> list[list[Any]]:
    """Return references as sacreBLEU takes them: one list for each rank, with None where a sentence has no more."""
    most = max(map(len, references))
    return [[own[rank] if rank < len(own) else None for own in references] for rank in range(most)]


def edits(output: Sequence[str], reference: Sequence[str]) -> int:
    """Return the edit distance by its recursion, a row at a time."""
    before = list(range(len(reference) + 1))
    for number, unit in enumerate(output, 1):
        row = [number]
        for place, wanted in enumerate(reference, 1):
            row.append(min(before[place] + 1, row[-1] + 1, before[place - 1] + (unit != wanted)))
        before = row
    return before[-1]


def expected(name: str, outputs: list[str], references: list[tuple[str, ...]]) -> float:
    """Return the score of all sentences, without this package."""
    if name in ("chrf", "ter"):
        return {"chrf": CHRF, "ter": TER}[name]().corpus_score(outputs, streams(references)).score
    if name.startswith("rouge"):
        key = {"rouge_l": "rougeL"}.get(name, name)
        values = rouge_score(outputs, [list(own) for own in references], accumulate="best", rouge_keys=key)
        return 100 * float(values[f"{key}_fmeasure"])
    first, rates = [own[0] for own in references], {"word": word_error_rate, "character": char_error_rate}
    if (kind := name.removesuffix("_error_rate")) in rates and references == single(first):
        return 100 * float(rates[kind](outputs, first))
    if name.endswith("error_rate") and name != "sequence_error_rate":
        cut = list if name.startswith("character") else str.split
        closest = [
            min(((edits(cut(output), cut(other)), len(cut(other))) for other in own), key=lambda pair: pair[0])
            for output, own in zip(outputs, references, strict=True)
        ]
        return 100 * sum(errors for errors, _ in closest) / sum(units for _, units in closest)
    right = 100 * sum(output in own for output, own in zip(outputs, references, strict=True)) / len(outputs)
    return right if name == "exact" else 100 - right


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("name", [name for name in METRICS if name != "bleu"])  # BLEU has tests of its own.
def test_a_metric_is_its_library(name: str, several: bool) -> None:
    outputs, references = texts()
    references = references if several else single([own[0] for own in references])
    metric = METRICS[name]("en")
    assert metric.total(outputs, references, outputs) == pytest.approx(expected(name, outputs, references), rel=1e-5)
    assert metric.lowest < metric.total(outputs, references, outputs) < 100, "the set tells good from bad"
    perfect = metric.total([own[-1] for own in references], references, outputs)
    assert perfect == pytest.approx(metric.highest if metric.higher_is_better else metric.lowest)


@pytest.mark.parametrize("name", list(METRICS))
def test_a_sum_of_counts_is_the_score_of_the_sentences(name: str) -> None:
    """As bootstrap resamples and length buckets use it: any sentences, each any number of times, many sums at once."""
    outputs, references = texts()
    metric = METRICS[name]("en")
    statistics = metric.statistics(outputs, references, outputs)
    counts = draw_resamples(len(outputs), 20)
    quantity = metric_quantity(metric, [statistics], counts)
    for drawn, value in zip(counts, quantity.drawn[0], strict=True):
        rows = np.repeat(np.arange(len(outputs)), drawn.astype(int)).tolist()
        alone = metric.total([outputs[row] for row in rows], [references[row] for row in rows], outputs)
        assert value == pytest.approx(alone, rel=1e-6)
    assert quantity.bounds.low == metric.lowest
    assert quantity.bounds.high == metric.highest


@pytest.mark.parametrize("name", ["exact", "sequence_error_rate"])
def test_an_output_that_is_right_until_it_stops_ends_early(name: str) -> None:
    """Counted by the text itself, in place of its units; one that is another reference is right, and not early."""
    references = [("go left", "go left twice"), ("run",), ("run",), ("jump right",), ("go", "walk on")]
    outputs = ["go left", "", "run run", "jump up", "walk"]
    metric = METRICS[name]("en")
    assert metric.details(metric.statistics(outputs, references, outputs).sum(0)) == {"premature": 40.0}
    outputs, references = texts(200)
    outputs = [own[0].rsplit(" ", row % 3)[0] if row % 2 else outputs[row] for row, own in enumerate(references)]
    early = [
        output not in own and any(other.startswith(f"{output} ") for other in own)
        for output, own in zip(outputs, references, strict=True)
    ]
    assert 20 < sum(early) < 180
    told = metric.details(metric.statistics(outputs, references, outputs).sum(0))
    assert told == {"premature": pytest.approx(100 * sum(early) / 200)}


def test_early_ends_stand_in_the_table_of_a_run_by_length() -> None:
    metrics = make_metrics(compose_config("metrics=exact")["metrics"], "en")
    outputs, references = ["a b", "a", "a b c"], single(["a b", "a b", "a b d"])
    scores = score(outputs, references, outputs, [1, 1, 4], edges=[1, 3, 6], metrics=metrics)
    assert scores["premature"] == pytest.approx(100 / 3)
    assert [bucket["premature"] for bucket in scores["buckets"]] == [50.0, 0.0, None]
    head, _, first, *_ = format_table(scores).splitlines()
    assert head.split()[-2:] == ["EM", "early"]
    assert first.split()[-2:] == ["50.00", "50.00"]
    assert "end too early" in format_table(scores)


def test_a_metric_whose_details_fail_has_its_score(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """It is refused before a training, and costs nothing but its details after it."""
    config = compose_config("metrics=exact")["metrics"]
    metrics = make_metrics(config, "en")
    monkeypatch.setattr(METRICS["exact"], "details", lambda self, sums: {"premature": sums[9]})
    with pytest.raises(UserError, match=r"^metrics=exact: fails on a sentence \(IndexError: [^\n]*$"):
        make_metrics(config, "en")
    scores = score(["a"], single(["a"]), ["a"], [1], edges=[1], metrics=metrics)
    assert scores["exact"] == 100
    assert "premature" not in scores
    assert "metrics=exact: no details (IndexError: " in caplog.text


@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_knows_its_direction(name: str) -> None:
    outputs, references = texts()
    metric = METRICS[name]("en")
    good = metric.total([own[0] for own in references], references, outputs)
    bad = metric.total(["x y z"] * len(references), references, outputs)
    assert metric.is_better(good, bad)
    assert not metric.is_better(bad, good)
    assert metric.rank(good) > metric.rank(bad)
    assert 0 < len(metric.title) <= 7


def test_a_resample_of_sentences_without_units_has_no_score() -> None:
    metric = METRICS["word_error_rate"]("en")
    statistics = metric.statistics(["a", "a b"], [("",), ("a b",)], ["", ""])
    drawn = metric_quantity(metric, [statistics], np.array([[2.0, 0.0], [1.0, 1.0]])).drawn[0]
    assert math.isnan(drawn[0])
    assert drawn[1] == pytest.approx(50)


@pytest.mark.parametrize("name", list(METRICS))
def test_a_sentence_without_a_reference_is_one_clear_line(name: str) -> None:
    metric = METRICS[name]("en")
    for references in ([("a",), ()], [("a",)]):
        with pytest.raises(UserError, match=rf"^metrics={name}: sentence 2 of 2 has no reference: [^\n]*$"):
            metric.statistics(["a", "b"], references, ["a", "b"])
    with pytest.raises(UserError, match=rf"^metrics={name}: 2 references, and 1 outputs: [^\n]*$"):
        metric.statistics(["a"], [("a",), ("b",)], ["a"])


@pytest.mark.parametrize("language", ["de", "zh", "ja", "el"])
def test_rouge_is_refused_for_letters_that_its_tokenizer_drops(language: str) -> None:
    config = compose_config("metrics=summarisation")
    with pytest.raises(UserError, match=rf"^metrics=rouge_l with data.target={language}: [^\n]* a to z [^\n]*$"):
        make_metrics(config["metrics"], language)


@pytest.mark.parametrize("group", sorted(file.stem for file in (CONF / "metrics").glob("*.yaml")))
def test_every_group_scores_in_all_and_by_length(group: str) -> None:
    config = compose_config(f"metrics={group}")
    assert config["trainer"]["select"] == config["metrics"]["main"]
    metrics = make_metrics(config["metrics"], "en")
    outputs, references = texts()
    words = [max(1, len(output.split())) for output in outputs]
    scores = score(outputs, references, outputs, words, edges=[1, 6, 200], metrics=metrics)
    json.dumps(scores, allow_nan=False)  # metrics.json needs plain values.
    assert scores["main"] == metrics.main.name == next(iter(facts_of(scores)))
    for bucket in scores["buckets"]:
        low, high = bucket["source_words"]
        rows = [row for row, count in enumerate(words) if low <= count and (high is None or count <= high)]
        for metric in metrics.all:
            of_rows = [outputs[row] for row in rows], [references[row] for row in rows]
            alone = metric.total(*of_rows, of_rows[0]) if rows else None
            assert bucket[metric.name] == (None if alone is None else pytest.approx(alone))
    table = format_table(scores)
    assert all(facts.signature in table for facts in facts_of(scores).values())
    assert ("copy" in table.splitlines()[0]) == metrics.main.scores_copies
    assert ("(lower is better)" in table) == (not metrics.main.higher_is_better)


def test_scores_of_earlier_versions_have_bleu_and_chrf() -> None:
    older = {"bleu": 1.0, "chrf": 2.0, "signature": "s", "chrf_signature": "c"}
    facts = facts_of({**older, "metrics": {"ter": {"heading": "TER", "digits": 2, "signature": "t"}}})
    assert [(name, own.heading, own.signature) for name, own in facts.items()] == [
        ("bleu", "BLEU", "s"),
        ("chrf", "chrF", "c"),
        ("ter", "TER", "t"),
    ]


def test_another_metric_than_the_main_one_keeps_its_options() -> None:
    config = compose_config(
        "metrics=exact", "metrics.others=[ter]", "metrics.options=[{name: ter, case_sensitive: true}]"
    )
    assert main_metric(config).name == "exact"
    assert "case:mixed" in main_metric(config, "ter").signature()
    assert main_metric(config, "rouge1").name == "rouge1"
    with pytest.raises(UserError, match=r"^metric=wer: no such choice"):
        main_metric(config, "wer")
