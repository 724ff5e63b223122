"""The first screen: one sentence with its interval, one figure, one table of five columns, and two sentences twice."""

import math
import re
from dataclasses import replace
from typing import Any

import pytest
from made_bits import measured, slope
from made_evaluation import (
    made_evaluation,
    made_ladder,
    made_variant,
    unfinished,
    with_variant_result,
)

from hourglass.analysis.evaluation import Evaluation, VariantPair
from hourglass.analysis.ladder import Ladder
from hourglass.corpora.recipes import RECIPES, terms_of
from hourglass.metrics.metric import MetricFacts
from hourglass.metrics.metrics import spell_out
from hourglass.metrics.significance import Difference, Interval
from hourglass.reports.ablation import ReportOrigin, write_ablation
from hourglass.reports.answer import find_answer, how_sure, say_answers, what_would_change_it
from hourglass.reports.document import Folded, Heading, Paragraph, Picture, Table, to_markdown, unfolded
from hourglass.reports.plots import LineFigure

NO_NUMBERS = Interval(math.nan, math.nan)


def of(other: Any, **changes: Any) -> Evaluation:
    """An evaluation of none and one attention."""
    made = made_evaluation(changes.pop("name", "verses"))
    variants = {"none": made.variants["none"], "luong_general": other}
    return replace(made, variants=variants, slopes={"luong_general": other.difference.whole}, pairs=[], **changes)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text: a full stop within a number ends none."""
    return re.findall(r".+?\.(?= [A-Z]|$)", text)


ERRORS = {"phoneme_error_rate": MetricFacts("PER", 2, "per", higher_is_better=False)}


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        (
            of(made_variant("luong_general", 60.0, 50.0)),
            "attention helps: BLEU is 60.0 with luong_general and 10.0 with none, a difference of +50.0 (95 %",
        ),
        (of(made_variant("luong_general", 4.0, -6.0)), "attention does harm: BLEU is 4.0 with luong_general"),
        (
            of(made_variant("luong_general", 4.0, -6.0), metrics=ERRORS),
            "attention helps: phoneme error rate (PER) is 4.0",
        ),
        (
            of(made_variant("luong_general", 16.0, 6.0), metrics=ERRORS),
            "attention does harm: phoneme error rate (PER) is 16.0",
        ),
        (
            of(made_variant("luong_general", 11.0, 1.0)),
            "it cannot be told whether attention helps, as the interval of the difference holds 0: BLEU is 11.0",
        ),
        (
            of(made_variant("luong_general", 40.0, 30.0, half=None)),
            "it cannot be told whether attention helps, as the test set is too small for an interval: BLEU is 40.0",
        ),
    ],
)
def test_the_answer_of_one_corpus(evaluation: Evaluation, words: str) -> None:
    text = say_answers([find_answer(evaluation)])
    assert text.startswith(f"On verses, {words}")
    assert len(sentences(text)) == 1
    assert ("less is better" in text) == (evaluation.metric.heading == "PER")


PRIMARY = [("luong_general", "fixed"), ("fixed", "none")]


def in_bits(*difference: Any, evaluation: Evaluation | None = None) -> str:
    """Return the answer of the made evaluation in bits, of which luong_general has so many more than fixed."""
    return say_answers([find_answer(evaluation or made_evaluation(), measured(*difference), PRIMARY)])


SCORES = "In BLEU, luong_general has 60.0 and fixed 20.0"


def test_where_bits_are_known_the_answer_is_the_primary_estimand_and_the_score_comes_second() -> None:
    assert in_bits(7.0, 6.0, 8.0, slope(0.5)) == (
        "On verses, attention helps: the decoder of luong_general receives 7.0 bits a sentence more than that of "
        "fixed, which sees one vector, at every step (95 % interval +6.0 to +8.0), and 0.50 bits more with each "
        f"further source word (+0.40 to +0.60). {SCORES}."
    )
    assert in_bits(-7.0, -8.0, -6.0, slope(-0.5)).startswith(
        "On verses, attention does harm: the decoder of luong_general receives 7.0 bits a sentence fewer than that of "
        "fixed, which sees one vector, at every step (95 % interval -8.0 to -6.0), and 0.50 bits fewer with each"
    )
    unclear = in_bits(1.0, -1.0, 3.0, slope(0.05))
    assert "it cannot be told whether attention helps, as the interval of the difference holds 0: the" in unclear
    assert unclear.endswith(
        "; whether this changes with the length of the source is not shown: +0.05 bits a further source word (-0.05 to "
        f"+0.15). {SCORES}."
    )
    level = replace(slope(0.0), plateau=9.0, plateau_interval=Interval(8, 10))
    assert ", which levels off at +9.0 (+8.0 to +10.0) as sentences get longer. In" in in_bits(7.0, 6.0, 8.0, level)
    assert ", the same at all lengths. In" in in_bits(7.0, 6.0, 8.0, replace(level, flat=True))
    assert in_bits().endswith(f"(95 % interval +6.0 to +8.0). {SCORES}.")  # An older result.
    pair = VariantPair("fixed", "luong_general", ["score"], replace(slope_difference(), value=-40.0))
    compared = replace(made_evaluation(), pairs=[pair])
    assert in_bits(evaluation=compared).endswith(f"{SCORES}, a difference of +40.0 (95 % interval +35.0 to +45.0).")
    errors = replace(made_evaluation(), metrics=ERRORS)
    assert in_bits(evaluation=errors).endswith(
        "In phoneme error rate (PER), luong_general has 60.0 and fixed 20.0; less is better."
    )


def slope_difference() -> Difference:
    return Difference(-40.0, Interval(-45, -35), None, None, 0.01)


def test_figure_and_table_of_an_answer_in_bits_are_of_bits() -> None:
    evaluation, origin = made_evaluation(), ReportOrigin("c", "today")
    bits = {"verses": measured(7.0, 6.0, 8.0, slope(0.5))}
    blocks = write_ablation({"verses": evaluation}, origin, bits, estimands={"verses": PRIMARY})
    picture, table = blocks[2], blocks[3]
    assert isinstance(picture, Picture)
    assert isinstance(table, Table)
    assert picture.figure.axes[0].get_ylabel() == "bits minus fixed"
    assert isinstance(picture.figure, LineFigure)
    drawn = {name: line.y for name, line, _ in picture.figure.drawn}
    assert drawn["luong_general"] == [7.0, 7.0]
    assert drawn["none"] == [-2.0, -2.0]  # The other estimand, turned over.
    assert table.head[2:] == ["bits more than fixed", "95 % interval", "BLEU"]
    assert [row[0] for row in table.rows] == ["none", "fixed", "luong_general"]
    assert table.rows[0][2:] == ["-2.0", "[-3.0, -1.0]", "10.0"]
    assert table.rows[1][2:] == ["-", "-", "20.0"]
    assert table.rows[2][2:] == ["+7.0", "[6.0, 8.0]", "60.0"]
    text = to_markdown(blocks, "figures")
    assert "More training of fixed may" not in text  # It had converged.
    assert "More training, hardly: fixed had converged" in text


@pytest.mark.parametrize("estimands", [[], [("luong_general", "mean")], [("mean", "none")]])
def test_without_the_bits_of_the_estimand_the_answer_is_the_score(estimands: list[tuple[str, str]]) -> None:
    evaluation = made_evaluation()
    assert find_answer(evaluation, measured(), estimands) == find_answer(evaluation)
    assert find_answer(evaluation, None, PRIMARY) == find_answer(evaluation)


def test_several_corpora_may_have_answers_in_several_units() -> None:
    evaluations = {name: made_evaluation(name) for name in "ab"}
    blocks = write_ablation(
        evaluations, ReportOrigin("c", "today"), {"a": measured()}, estimands=dict.fromkeys(evaluations, PRIMARY)
    )
    assert isinstance(blocks[1], Paragraph)
    assert blocks[1].text == (
        "Attention helps on a (+7.0 bits a sentence, 95 % interval +6.0 to +8.0) and b (+50.0 BLEU, 95 % interval "
        "+45.0 to +55.0)."
    )


@pytest.mark.parametrize("recipe", [*RECIPES, "of_a_plugin"])
def test_what_sentences_and_words_are_is_said_where_they_are_something_else(recipe: str) -> None:
    made = made_evaluation()
    variants = {
        name: replace(own, config={**own.config, "data": {"name": recipe}}) for name, own in made.variants.items()
    }
    blocks = write_ablation({"verses": replace(made, variants=variants)}, ReportOrigin("c", "today"))
    said = [block.text for block in blocks if isinstance(block, Paragraph) and "Here a sentence is" in block.text]
    terms = terms_of(recipe)
    assert len(said) == (terms is not None)
    (lengths,) = [each for each in unfolded(blocks) if isinstance(each, Table) and each.name == "verses-lengths"]
    assert lengths.head[0] == ("source words" if terms is None else terms.lengths)
    assert terms is None or all(term in said[0] for term in terms[:3])
    assert (terms is None) == (recipe not in ("cmudict", "scan", "shapes", "features", "pictures"))


def test_the_table_of_provenance_has_the_metrics_of_all_corpora() -> None:
    exact = {"exact": MetricFacts("EM", 2, "exact:1")}
    evaluations = {"verses": made_evaluation(), "commands": made_evaluation("commands", metrics=exact)}
    text = to_markdown(write_ablation(evaluations, ReportOrigin("c" * 12, "today")), figures="")
    assert "| BLEU | nrefs:1 | - |" in text
    assert "| EM | - | exact:1 |" in text


def test_several_corpora_have_one_sentence_and_an_answer_each() -> None:
    evaluations = {
        "a": of(made_variant("luong_general", 60.0, 50.0), name="a"),
        "b": of(made_variant("luong_general", 11.0, 1.0), name="b"),
        "c": of(made_variant("luong_general", 4.0, -6.0), name="c"),
        "d": of(made_variant("luong_general", 50.0, 40.0), name="d"),
    }
    blocks = write_ablation(evaluations, ReportOrigin("c", "today"))
    lead = blocks[1]
    assert isinstance(lead, Paragraph)
    assert lead.lead
    assert lead.text == (
        "Attention helps on a (+50.0 BLEU, 95 % interval +45.0 to +55.0) and d (+40.0 BLEU, 95 % interval +35.0 to "
        "+45.0); attention does harm on c (-6.0 BLEU, 95 % interval -11.0 to -1.0); it cannot be told whether "
        "attention helps on b (+1.0 BLEU, 95 % interval -4.0 to +6.0)."
    )
    shown = [block for block in blocks if not isinstance(block, Folded)]
    assert [block.text for block in shown if isinstance(block, Heading) and block.level == 2] == list(evaluations)
    for evaluation in evaluations.values():
        assert Paragraph(say_answers([find_answer(evaluation)])) in shown
    assert [block.name for block in shown if isinstance(block, Table)] == [f"{name}-answer" for name in evaluations]
    unclear = {name: evaluations[name] for name in "bc"}
    text = to_markdown(write_ablation(unclear, ReportOrigin("c", "today")), "figures")
    assert "Attention does harm on c" in text
    assert say_answers([find_answer(evaluations["b"])] * 2).startswith(
        "It cannot be told whether attention helps on b ("
    )


def test_the_first_screen_is_the_answer_and_all_else_is_folded() -> None:
    evaluation = made_evaluation()
    blocks = write_ablation(
        {"verses": evaluation}, ReportOrigin("c", "today"), {}, {"verses": made_ladder("falls", 32e6)}
    )
    kinds = [type(block) for block in blocks]
    first = [Heading, Paragraph, Picture, Table, Heading, Paragraph, Heading, Paragraph]
    assert kinds[: len(first)] == first
    assert set(kinds[len(first) :]) == {Folded}
    picture, table = blocks[2], blocks[3]
    assert isinstance(picture, Picture)
    assert isinstance(table, Table)
    assert table.head == ["variant", "what its decoder sees of the source", "BLEU", "minus none", "95 % interval"]
    # The control, of one seed, stands below.
    assert [row[0] for row in table.rows] == ["none", "fixed", "luong_general"]
    assert table.rows[0][1:] == ["one vector, before its first step", "10.0", "-", "-"]
    assert table.rows[2][1:] == ["all encoder states, weighed anew at every step", "60.0", "+50.0", "[45.0, 55.0]"]
    axes = picture.figure.axes[0]
    assert [line.get_gid() for line in axes.get_lines() if len(np_y(line)) == 2][:2] == [
        "series-0-line",
        "series-1-line",
    ]
    assert len([band for band in axes.collections if "band" in str(band.get_gid())]) == 2
    headings = [block.text for block in blocks[4:8] if isinstance(block, Heading)]
    assert headings == ["How sure", "What would change it"]
    assert all(len(sentences(block.text)) == 2 for block in blocks[4:8] if isinstance(block, Paragraph))


def np_y(line: Any) -> list[float]:
    return list(line.get_ydata())


def test_how_sure_is_two_sentences_on_the_interval_and_on_training() -> None:
    evaluation = made_evaluation()
    text = how_sure(find_answer(evaluation), evaluation)
    assert "trained with 3 seeds each, and with so few seeds an interval is wide. Both had converged" in text
    late = replace(evaluation, variants={k: unfinished(own, False) for k, own in evaluation.variants.items()})
    assert "Variant none had not converged after 4.00 million target tokens" in how_sure(find_answer(late), late)
    small = of(made_variant("luong_general", 40.0, 30.0, half=None))
    assert how_sure(find_answer(small), small).startswith("There is no interval: the test set is too small")
    other = of(made_variant("luong_general", 40.0, 30.0, seeds=5))
    assert "the two were trained with 3 and 5 seeds, and with so few seeds" in how_sure(find_answer(other), other)
    once = of(made_variant("luong_general", 40.0, 30.0, seeds=1))
    assert "as one of the two was trained once." in how_sure(find_answer(once), once)
    alone = with_variant_result(once, "none", seeds=once.variants["none"].seeds[:1])
    lead = once.variants["luong_general"].difference
    assert lead is not None
    no_seeds = replace(lead, whole=replace(lead.whole, architecture=None))
    alone = with_variant_result(alone, "luong_general", difference=no_seeds)
    assert "other test sentences alone: no variant was trained twice" in how_sure(find_answer(alone), alone)
    for made in (evaluation, late, small, once, alone):
        assert len(sentences(how_sure(find_answer(made), made))) == 2


@pytest.mark.parametrize(
    ("ladder", "words"),
    [
        (None, "More training, hardly: none had converged, though no ladder"),
        (made_ladder("cannot be told", rungs=1), "More training, hardly: none had converged, though no ladder"),
        (
            made_ladder("falls", 32e6),
            "and by a straight line over the logarithm of the budget would be gone at 32 million",
        ),
        (made_ladder("falls"), "too slowly to tell"),
        (made_ladder("grows"), "would rather widen it"),
        (made_ladder("flattened"), "has flattened"),
        (made_ladder("cannot be told"), "the course is unclear"),
        (made_ladder("not shown"), "the course is not shown"),
    ],
)
def test_what_would_change_it_is_two_sentences_on_training_and_on_the_task(ladder: Ladder | None, words: str) -> None:
    evaluation = made_evaluation()
    text = what_would_change_it(find_answer(evaluation), evaluation, ladder)
    assert words in text
    assert len(sentences(text)) == 2
    assert text.endswith("one corpus and one pair of languages (en to fr).")
    close = with_variant_result(evaluation, "none", copied=54.0)
    text = what_would_change_it(find_answer(close), close, ladder)
    assert "the source as its own translation has 54.0 BLEU" in text
    assert len(sentences(text)) == 2


def test_a_heading_is_spelt_out_by_the_name_of_its_metric() -> None:
    """A metric of a plugin may have a heading that another one has, or may not be loaded."""
    assert spell_out("exact", "EM") == "exact match (EM)"
    assert spell_out("of_a_plugin", "EM") == "EM"
    assert spell_out("bleu", "BLEU") == "BLEU"


def test_outputs_that_end_early_stand_in_two_tables_and_a_figure_where_they_are_counted() -> None:
    """Of sequence accuracy; of BLEU there are its brevity penalty and the ratio of lengths instead."""
    plain = made_evaluation()
    early = {
        name: replace(
            own,
            brevity_penalty=None,
            premature=10.0 + place,
            buckets=[replace(bucket, premature=None if bucket.score is None else 20.0) for bucket in own.buckets],
        )
        for place, (name, own) in enumerate(plain.variants.items())
    }
    for evaluation, counted in ((plain, False), (replace(plain, variants=early), True)):
        blocks = write_ablation({"verses": evaluation}, ReportOrigin("c", "today"))
        tables = {block.name: block for block in unfolded(blocks) if isinstance(block, Table)}
        pictures = {block.name for block in unfolded(blocks) if isinstance(block, Picture)}
        assert ("verses-premature" in pictures) is counted
        assert ("verses-brevity" in pictures) is not counted
        for name, cells in (("verses-variants", ["10.0", "11.0"]), ("verses-lengths", ["20.0", "20.0"])):
            table = tables[name]
            assert ("early, %" in table.head) is counted
            if counted:
                assert [row[table.head.index("early, %")] for row in table.rows][:2] == cells
                assert "end too early" in table.caption
                assert {len(row) for row in table.rows} == {len(table.head)}


def test_actions_are_in_no_language() -> None:
    """So that a corpus of commands to actions is not called one pair of languages."""
    evaluation = made_evaluation()
    commands = replace(evaluation, corpus=replace(evaluation.corpus, target="zxx"))
    text = what_would_change_it(find_answer(commands), commands, None)
    assert text.endswith("Another task may, too: this is one corpus.")


def test_the_ladder_of_the_answer_is_the_nearest() -> None:
    """Of the two variants of the answer, else of the best and another, else of the baseline and another."""
    evaluation = made_evaluation()
    answer, made = find_answer(evaluation), made_ladder("grows")

    def told(*pairs: tuple[str, str]) -> str:
        several = replace(made, estimands=list(pairs), whole=made.whole * len(pairs))
        return what_would_change_it(answer, evaluation, several)

    others = (("fixed", "none"), ("luong_general", "fixed"))
    assert "between luong_general and fixed" in told(*others)
    assert "between luong_general and none" in told(*others, ("luong_general", "none"))
    assert "between fixed and none" in told(("fixed", "forward"), ("fixed", "none"))


def test_an_interval_without_numbers_tells_nothing() -> None:
    answer = find_answer(made_evaluation())
    assert answer.verdict == "helps"
    lost = replace(answer.difference, value=math.nan, trained=NO_NUMBERS, architecture=NO_NUMBERS, own_spread=None)
    assert replace(answer, difference=lost).verdict == "cannot be told"
