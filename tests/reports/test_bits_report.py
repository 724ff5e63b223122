"""The report of bits, from results made up for each statement."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import in_a_sentence
from made_bits import (
    PROVENANCE,
    bits,
    difference,
    exactly_known,
    frozen,
    rereading,
    result,
    slope,
    variant,
    with_variant,
)

from hourglass.analysis.convergence import NOT_JUDGED
from hourglass.analysis.information import (
    BLIND,
    Information,
    LearningPoint,
    SettingDifference,
)
from hourglass.metrics.significance import Interval
from hourglass.reports.bits import ABSOLUTE, explain_losses, lost_by_encoder, report_bits, summarise_bits
from hourglass.reports.document import Block, Paragraph, Picture, Table, to_html, to_markdown


def tables(blocks: list[Block]) -> list[Table]:
    return [block for block in blocks if isinstance(block, Table)]


def summary(information: Information) -> str:
    return " ".join(summarise_bits(information))


def explanation(information: Information) -> str:
    return " ".join(explain_losses(information))


def test_the_leader_is_the_attention_that_did_best_on_dev() -> None:
    """Not the one with the most bits on test."""
    other = variant("luong_dot", bits=bits(100.0), difference=difference(90.0, 89.0, 91.0))
    variants = {**result().variants, "other": other}
    assert "variant plain needs 2.0 bits fewer" in summary(
        result(variants={**variants, "other": replace(other, dev_loss=[2.1])})
    )
    assert "variant other needs 90.0 bits fewer" in summary(
        result(variants={**variants, "other": replace(other, dev_loss=[1.9])})
    )


def test_a_negative_difference_is_more_bits() -> None:
    text = summary(with_variant(result(), "plain", difference=difference(-0.8, -1.5, -0.1)))
    assert in_a_sentence(text, "verses", "plain", "0.8 bits more", "none")


@pytest.mark.parametrize(
    ("attention", "access"),
    [
        ("none", "runs/B receives one fixed vector, before its first step; runs/A receives one"),
        ("fixed", "runs/B reads the same fixed vector at every step; runs/A receives one"),
        ("luong_dot", "runs/B looks back at all encoder states, and weights them anew at every step; runs/A rec"),
    ],
)
def test_what_a_decoder_sees_follows_from_its_attention_whatever_its_name(attention: str, access: str) -> None:
    variants = result().variants
    information = result(
        baseline="runs/A",
        variants={"runs/A": variants["none"], "runs/B": replace(variants["plain"], attention=attention)},
    )
    assert access in summary(information)
    assert report_bits(information)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"plateau": None},
            r"Up to 9 source words, .* no plateau .* changes it by -0\.40 bits \[-1\.00, 1\.00\] \(over test sent",
        ),
        (
            {"plateau": 12.0, "flat": True},
            r"same for all observed lengths, from 2 to 9 words: 12\.0 bits \(95 % interval 11\.0 to 13\.0, over test",
        ),
        (
            {"plateau": 12.0, "flat": False},
            r"levels off at 12\.0 bits \(95 % interval 11\.0 to 13\.0, over test sentences\) as sentences get longer",
        ),
    ],
)
def test_a_plateau_in_words(changes: dict[str, Any], words: str) -> None:
    curve = replace(result().variants["none"].saturation, plateau_interval=Interval(11.0, 13.0), **changes)
    assert re.search(words, summary(with_variant(result(), "none", saturation=curve)))


def test_the_slope_of_each_seed_is_shown() -> None:
    assert "(over test sentences; by seed: -0.30, -0.50)" in summary(
        with_variant(result(), "none", slopes=[-0.3, -0.5])
    )


def test_missing_convergence_is_reported() -> None:
    text = summary(result())
    assert "not converged" not in text
    unfinished = with_variant(result(), "plain", converged=[True, False])
    assert in_a_sentence(summary(unfinished), "not converged", "plain")
    short = summary(with_variant(result(), "plain", converged=[True, None]))
    assert "These variants had not converged" not in short
    assert f"Of these variants convergence cannot be told: plain. {NOT_JUDGED}" in short
    information = result(blind=replace(result().blind, converged=False, last_fifth_bits=3.21))
    assert in_a_sentence(summary(information), "last fifth", "3.2 bits")
    assert "3.2 bits" not in summary(exactly_known(information))  # There its bits are not used.


def test_an_interval_says_what_it_covers() -> None:
    facts = ("none", "5.0 bits fewer", "blind decoder", "95 %", "4.0 to 6.0", "over test sentences;")
    assert in_a_sentence(summary(result()), *facts)
    text = summary(with_variant(result(), "none", bits=bits(5.0, 4.5, 5.5)))
    assert in_a_sentence(text, "3.0 to 7.0", "over test sentences and trainings", "4.5, 5.5")


def test_known_information_replaces_the_blind_decoder() -> None:
    text = summary(exactly_known(result(), plain=bits(30.0)))
    assert in_a_sentence(text, "35.0 bits", "exactly")
    assert in_a_sentence(text, "plain", "30.0 of the 35.0 bits", "29.0 to 31.0")
    assert "than the blind decoder" not in text


@pytest.mark.parametrize(
    ("value", "low", "high", "converged", "verdict"),
    [
        (2.0, 1.0, 3.0, True, "does not use it"),
        (2.0, 1.0, 3.0, False, "cannot separate"),
        (2.0, -1.0, 3.0, True, "does not show that"),
        (-2.0, -3.0, -1.0, False, "not the reason"),
    ],
)
def test_forgetting_is_judged_by_the_variant_that_rereads(
    value: float, low: float, high: float, converged: bool, verdict: str
) -> None:
    assert "fixed has to be compared with none" in explanation(result())
    information = with_variant(result(), "none", converged=[converged])
    information = with_variant(
        information, "plain", attention="fixed", difference=difference(value, low, high), bits=bits(9.0)
    )
    assert verdict in explanation(information)
    information = with_variant(information, "plain", bits=bits(0.5))
    assert in_a_sentence(explanation(information), "plain", "tells nothing")


def test_without_attention_that_looks_back_the_other_neck_is_compared() -> None:
    information = with_variant(result(), "plain", attention="fixed")
    assert in_a_sentence(summary(information), "plain", "2.0 bits fewer", "none")


def test_bits_near_zero_are_not_a_reading() -> None:
    information = exactly_known(result(), none=bits(5.0))
    assert "Variant none receives 5.0 of the 35.0 bits" in summary(information)
    text = summary(exactly_known(result(), none=bits(-0.8)))
    assert in_a_sentence(text, "-0.8", "-1.8 to 0.2")
    assert in_a_sentence(text, "none", "zero")
    assert "plateau" not in text
    assert "-0.8 of the" not in text


def test_a_variant_that_is_worse_than_the_blind_decoder_is_not_called_zero() -> None:
    """Where test differs from train, a decoder may be worse with its source than without."""
    text = summary(with_variant(result(), "none", bits=bits(-23.5)))
    assert "Variant none needs 23.5 bits more per sentence than the blind decoder" in text
    assert in_a_sentence(text, "worse with its source")
    assert "-24.5 to -22.5" in text
    assert "told from zero" not in text
    assert "told from zero" in summary(with_variant(result(), "none", bits=bits(-0.8)))
    assert "told from zero" in summary(with_variant(result(), "none", bits=replace(bits(-23.5), interval=None)))
    assert "told from zero" in summary(exactly_known(result(), none=bits(-23.5)))


def test_bits_that_a_blind_decoder_may_still_save_are_not_a_reading() -> None:
    blind = replace(result().blind, converged=False, last_fifth_bits=3.9)
    assert "Variant none needs 5.0 bits fewer" in summary(result(blind=blind))
    # Above the lower end of the interval.
    text = summary(result(blind=replace(blind, last_fifth_bits=4.1)))
    assert in_a_sentence(text, "none", "told from zero", "4.1 or more may be missing training of the blind decoder")
    assert "5.0 bits fewer" not in text


@pytest.mark.parametrize("known", [False, True])
def test_the_report_has_a_table_and_all_figures(known: bool) -> None:
    information = exactly_known(result()) if known else result()
    blocks = report_bits(information)
    differences, readings, table = tables(blocks)
    assert [row[0] for row in table.rows] == ["none", "plain"]
    assert all(len(row) == len(each.head) for each in (differences, readings, table) for row in each.rows)
    (row,) = differences.rows
    assert row[:4] == ["plain", "none", "+2.00", "[1.00, 3.00]"]
    cells = dict(zip(table.head, table.rows[1], strict=True))
    assert cells["bits per sentence"] == "7.00"
    assert cells["joined by 2, change"] == "-2.0 [-3.00, -1.00]"
    assert cells["dev, 50 % of the budget"] == "1.0"  # Between -1 at 1,000 tokens and 5 at 4,000.
    pictures = [block.name for block in blocks if isinstance(block, Picture)]
    names = ("difference", *(["by-digits"] if known else []), "by-length", "by-position", "learnt")
    assert pictures == [f"verses-bits-{name}" for name in names]
    assert "<svg" in to_html(blocks)
    assert "| plain | none | +2.00 | [1.00, 3.00] |" in to_markdown(blocks, "figures")


def test_differences_stand_before_what_rests_on_the_blind_decoder() -> None:
    blocks = report_bits(rereading())
    names = [block.name for block in blocks if isinstance(block, Table | Picture)]
    assert names == [
        "verses-bits-differences",
        "verses-bits-difference",
        "verses-bits-difference-2",
        "verses-bits-readings",
        "verses-bits",
        "verses-bits-by-length",
        "verses-bits-by-position",
        "verses-bits-learnt",
    ]
    at = [index for index, block in enumerate(blocks) if isinstance(block, Paragraph) and block.text == ABSOLUTE]
    assert at == [index - 1 for index, block in enumerate(blocks) if isinstance(block, Table)][2:]
    differences, _, _ = tables(blocks)
    rows = [dict(zip(differences.head, row, strict=True)) for row in differences.rows]
    assert [(row["variant"], row["less"], row["bits"]) for row in rows] == [
        ("fixed", "none", "+2.00"),
        ("plain", "none", "+9.00"),
        ("plain", "fixed", "+7.00"),
    ]
    assert [row["bits per source word"] for row in rows] == ["+0.25", "+0.75", "+0.50"]
    assert [row["word, these trained models"] for row in rows] == ["[0.15, 0.35]", "[0.65, 0.85]", "[0.40, 0.60]"]
    assert [row["word, own spread"] for row in rows] == ["-", "[0.50, 1.00]", "-"]


def test_the_summary_tells_what_each_difference_gains_with_length() -> None:
    first, second, _ = summarise_bits(rereading())
    plain, of_plain, reread, of_reread, against, of_against, *_ = re.split(r"(?<=\.) ", first)
    assert in_a_sentence(plain, "verses", "plain", "9.0 bits fewer", "none")
    assert in_a_sentence(of_plain, "+0.75 bits", "+0.50 to +1.00", "own seeds")
    assert in_a_sentence(reread, "plain", "7.0 bits fewer", "fixed")
    assert in_a_sentence(of_reread, "+0.50 bits", "+0.40 to +0.60", "over test sentences")
    assert in_a_sentence(against, "fixed", "2.0 bits fewer", "none")
    assert in_a_sentence(of_against, "+0.25 bits")
    assert second.startswith(ABSOLUTE)


@pytest.mark.parametrize(
    ("flat", "words"), [(True, "same for all observed lengths, from 2 to 9 words: -4.0 bits"), (False, "off at -4.0")]
)
def test_a_difference_may_level_off_below_zero(flat: bool, words: str) -> None:
    curve = replace(slope(-0.1), plateau=-4.0, plateau_interval=Interval(-5.0, -3.0), flat=flat)
    text = summary(with_variant(result(), "plain", difference=difference(-4.0, -5.0, -3.0, curve)))
    assert words in text
    assert "-5.0 to -3.0, over test sentences)" in text


def test_all_readings_stand_side_by_side_with_what_they_assume() -> None:
    table = tables(report_bits(frozen()))[1]
    assert table.head == [
        *("variant", "less none", "less the blind decoder", "contrastive", "source nulled", "in the vector, unused"),
        "lost by the encoder",
    ]
    none = dict(zip(table.head, table.rows[0], strict=True))
    assert none == {
        "variant": "none",
        "less none": "-",
        "less the blind decoder": "5.00 [4.00, 6.00]",
        "contrastive": "at least 3.00 [2.00, 4.00], cap 10.00",
        "source nulled": "4.00 [3.00, 5.00]",
        "in the vector, unused": "+0.50 [0.25, 0.75]",
        "lost by the encoder": "+1.50 [1.25, 1.75]",
    }
    assert [row[-2:] for row in table.rows[1:]] == [["-", "-"], ["-", "-"]]
    for assumption in ("nothing beside the two models", "not trained on test", "same weights", "fresh decoder"):
        assert assumption in table.caption
    columns = tables(report_bits(rereading()))[1].head
    assert columns == ["variant", "less none", "less the blind decoder"]  # What was not measured has no column.


def test_a_comparison_the_other_way_round_is_reversed() -> None:
    information = frozen()
    own, other = information.less("fixed", "fresh"), information.less("fresh", "fixed")
    assert own is not None
    assert other is not None
    assert (own.value, own.trained) == (1.5, Interval(1.25, 1.75))
    assert (other.value, other.trained, other.p) == (-1.5, Interval(-1.75, -1.25), own.p)
    assert information.less("fixed", "nobody") is None


def test_a_fresh_decoder_tells_what_the_encoder_has_lost() -> None:
    text = explain_losses(frozen())[-1]
    assert text.startswith("Lost by the encoder? Variant fresh is a fresh decoder on the encoder of variant none")
    assert "0.5 bits fewer than the encoder's own decoder" in text
    assert "so many were in the vector and unused" in text
    assert "Variant fixed, whose encoder was trained together with such a decoder, needs 1.5 bits fewer" in text
    assert "so many the encoder has lost" in text
    without = replace(frozen(), contrasts=[], variants={k: v for k, v in frozen().variants.items() if k != "fixed"})
    assert "a run of attention=fixed with the same encoder would tell, and it is missing" in explain_losses(without)[-1]
    nothing = replace(frozen().variants["fresh"], difference=difference(0.1, -0.25, 0.45))
    shown = explain_losses(replace(frozen(), variants={**frozen().variants, "fresh": nothing}))[-1]
    assert "nothing was shown to be in the vector and unused" in shown
    worse = replace(frozen().variants["fresh"], difference=difference(-9.0, -10.0, -8.0))
    poor = replace(frozen(), variants={**frozen().variants, "fresh": worse})
    unread = explain_losses(poor)[-1]
    assert "has not learnt to read the vector" in unread
    assert "the encoder has lost" not in unread
    assert lost_by_encoder(poor, "none") is None
    assert "in the vector, unused" in tables(report_bits(poor))[1].head
    assert "lost by the encoder" not in tables(report_bits(poor))[1].head
    assert "they cannot answer that" in explain_losses(rereading())[-1]
    # The variant that rereads is the one that was trained together with its encoder.
    assert "Lost by the decoder? Variant fixed reads" in explain_losses(frozen())[2]


def test_a_loss_by_the_encoder_is_not_read_from_variants_with_another_encoder() -> None:
    of = frozen().variants

    def made_with(encoder: dict[str, Any]) -> Information:
        joint = replace(of["fixed"], provenance=replace(PROVENANCE, config={**PROVENANCE.config, "encoder": encoder}))
        own = {**PROVENANCE.config, "encoder": {"name": "transformer", "summary_size": 256}}
        others = {name: replace(of[name], provenance=replace(PROVENANCE, config=own)) for name in of}
        return replace(frozen(), variants={**others, "fixed": joint})

    alike = made_with({"name": "transformer", "summary_size": 256})
    assert lost_by_encoder(alike, "none") == lost_by_encoder(frozen(), "none") is not None
    for encoder in ({"name": "bag", "summary_size": 256}, {"name": "transformer", "summary_size": 64}):
        other = made_with(encoder)
        assert lost_by_encoder(other, "none") is None
        assert "it is missing here" in explain_losses(other)[-1]
        assert "one is missing here" in explain_losses(other)[2]


def test_settings_that_differ_are_named() -> None:
    assert "settings other than" not in summary(result())
    named = [SettingDifference("optimizer.warmup", {"none": 0.05, "plain": 0.0, BLIND: 0.05})]
    information = result(setting_differences=named)
    assert "optimizer.warmup (none: 0.05, plain: 0.0, blind decoder: 0.05)" in summary(information)
    assert any("optimizer.warmup" in block.text for block in report_bits(information) if isinstance(block, Paragraph))


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ([], None),
        ([0.002, 0.004, 0.008], None),
        ([0.002, 0.004], "is the highest that was tried (0.002, 0.004)"),
        ([0.004, 0.008], "is the lowest that was tried"),
        ([0.004], "was not searched: 0.004 alone"),
    ],
)
def test_the_blind_decoders_search_is_judged(rates: list[float], words: str | None) -> None:
    made = replace(PROVENANCE, config={"optimizer": {"learning_rate": 0.004}})
    text = summary(result(blind=replace(result().blind, learning_rates=rates, provenance=made)))
    assert ("learning rate" in text) == (words is not None)
    assert words is None or words in text


def test_other_seeds_of_the_blind_decoder_say_how_far_figures_against_it_may_move() -> None:
    blind = result().blind  # Its own bits are 60.
    assert "other seeds" not in summary(result())
    text = summary(result(blind=replace(blind, other_seeds=[63.25, 58.0])))
    assert in_a_sentence(text, "other seeds", "63.2, 58.0 bits per sentence of test", "it needs 60.0")
    known = summary(exactly_known(result(blind=replace(blind, other_seeds=[63.25]))))
    assert "other seeds" not in known  # No figure there is against the blind decoder.


def test_training_is_held_against_the_blind_decoder_that_it_was_measured_with() -> None:
    """Older results have no curve of the blind decoder: theirs are against its best."""
    assert "against the blind decoder at its best" in explanation(result())
    of_now = replace(result().blind, learning=[LearningPoint(1000.0, 70.0)])
    assert "against the blind decoder after as many target tokens" in explanation(result(blind=of_now))


def test_a_curve_without_early_points_is_drawn_from_its_first() -> None:
    """One seed may have a validation fewer that can be compared; the mean pairs them from the last."""
    late, early = [LearningPoint(4000.0, 8.0)], [LearningPoint(1000.0, 0.0), LearningPoint(4000.0, 6.0)]
    information = with_variant(with_variant(result(), "none", learning=[late, early]), "plain", learning=[[]])
    (picture,) = (
        block for block in report_bits(information) if isinstance(block, Picture) and block.name.endswith("learnt")
    )
    none, plain = picture.figure.axes[0].get_lines()[:2]
    assert np.asarray(none.get_xydata()).tolist() == [[0.004, 7.0]]
    assert np.asarray(plain.get_xydata()).tolist() == []
    assert "No validation of variant none" in explanation(with_variant(result(), "none", learning=[[]]))


def test_the_provenance_of_an_old_result_is_not_made_up() -> None:
    information = with_variant(result(), "none", provenance=None)
    *_, last = report_bits(information)
    assert isinstance(last, Paragraph)
    assert "none: not recorded" in last.text
    assert re.search("plain: .*seed 1.*6,000.*0123456789ab", last.text)


def test_bits_during_training_are_those_of_validations() -> None:
    """Between validations on the line; before the first there is no figure, as nothing was measured there."""
    late = [LearningPoint(2000.0, 4.0), LearningPoint(4000.0, 8.0)]
    own = variant("none", learning=[late, [LearningPoint(1000.0, 0.0), LearningPoint(4000.0, 6.0)]])
    information = result(variants={**result().variants, "none": own})
    assert in_a_sentence(explanation(information), "bits per sentence", "3.0 after half of it and 7.0 at its end.")
    *_, table = tables(report_bits(information))
    columns = [table.head.index(f"dev, {share} % of the budget") for share in (25, 50, 100)]
    (row,) = (row for row in table.rows if row[0] == "none")
    assert [row[column] for column in columns] == ["-", "3.0", "7.0"]
