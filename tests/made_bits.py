"""Results of bits made up for each statement: see test_bits_report.py."""

from dataclasses import replace
from typing import Any

from hourglass.analysis.information import (
    BitsDifference,
    BlindBits,
    Contrast,
    ContrastiveBits,
    DigitBucket,
    Information,
    JoinedBits,
    LearningPoint,
    LengthBucket,
    NulledBits,
    PositionBucket,
    Provenance,
    VariantBits,
)
from hourglass.metrics.saturation import Saturation
from hourglass.metrics.significance import Difference, Estimate, Interval

CONFIG = {
    "data": {"name": "text"},
    "encoder": {"name": "rnn", "summary_size": 8},
    "decoder": {"start": "dense"},
    "attention": {"name": "none"},
}
PROVENANCE = Provenance([1], ["0123456789ab"], [6000], CONFIG)


def estimate(mean: float) -> Estimate:
    return Estimate(mean, [mean], Interval(mean - 1, mean + 1))


def bits(mean: float, *seeds: float) -> Estimate:
    """Return an estimate, precise to 1 bit over sentences and to 2 over trainings where there are several."""
    spread = Interval(mean - 2, mean + 2) if len(seeds) > 1 else None
    return Estimate(mean, list(seeds or [mean]), Interval(mean - 1, mean + 1), spread)


def difference(value: float, low: float, high: float, curve: Saturation | None = None) -> BitsDifference:
    whole = Difference(value, Interval(low, high), None, None, 0.01)
    return BitsDifference(whole, [whole, None, whole], curve)


def slope(value: float, own_spread: Interval | None = None) -> Saturation:
    """Return a curve without a plateau, whose slope is precise to 0.1 over sentences."""
    over_sentences = Interval(value - 0.1, value + 0.1)
    return Saturation(value, over_sentences, 0.0, 1.0, None, None, False, 2.0, 9.0, slope_own_spread=own_spread)


def rereading() -> Information:
    """Return the result of none, fixed and an attention, with all three differences."""
    variants = result().variants
    fixed = replace(variants["plain"], attention="fixed", difference=difference(2.0, 1.0, 3.0, slope(0.25)))
    plain = replace(variants["plain"], difference=difference(9.0, 8.0, 10.0, slope(0.75, Interval(0.5, 1.0))))
    return result(
        variants={"none": variants["none"], "fixed": fixed, "plain": plain},
        contrasts=[Contrast("plain", "fixed", difference(7.0, 6.0, 8.0, slope(0.5)))],
    )


def measured(value: float = 7.0, low: float = 6.0, high: float = 8.0, curve: Saturation | None = None) -> Information:
    """Return the bits of the variants of `made_evaluation`, with this difference of luong_general less fixed."""
    made = rereading()
    names = {"none": "none", "fixed": "fixed", "plain": "luong_general"}
    return replace(
        made,
        variants={names[name]: own for name, own in made.variants.items()},
        contrasts=[Contrast("luong_general", "fixed", difference(value, low, high, curve))],
    )


def variant(attention: str, **changes: Any) -> VariantBits:
    made = VariantBits(
        attention=attention,
        provenance=PROVENANCE,
        dev_loss=[2.0],
        converged=[True],
        temperatures=[0.9],
        parameters=1000,
        bits=bits(5.0),
        raw_bits=estimate(4.5),
        end_bits=estimate(0.25),
        exact_bits=None,
        by_length=[estimate(4.0), None, estimate(6.0)],
        by_position=[estimate(1.0), estimate(0.5)],
        joined={1: JoinedBits(estimate(5.0), estimate(0.0)), 2: JoinedBits(estimate(3.0), estimate(-2.0))},
        saturation=Saturation(-0.4, Interval(-1.0, 1.0), 0.0, 1.0, None, None, flat=False, shortest=2.0, longest=9.0),
        slopes=[-0.4],
        learning=[[LearningPoint(1000.0, -1.0), LearningPoint(4000.0, 5.0)]],
        difference=None if attention == "none" else difference(2.0, 1.0, 3.0),
    )
    return replace(made, **changes)


def result(**changes: Any) -> Information:
    """Return the result of a text corpus: none, the baseline, and an attention that looks back."""
    made = Information(
        corpus="verses",
        baseline="none",
        resamples=1000,
        sentences=120,
        lengths=[
            LengthBucket((1, 5), 60, 3.0, None, 40.0),
            LengthBucket((6, 7), 0, None, None, None),
            LengthBucket((8, None), 60, 9.0, None, 80.0),
        ],
        positions=[PositionBucket((1, 1), 120), PositionBucket((2, None), 120)],
        digits=None,
        exact_bits=None,
        blind=BlindBits(
            run="blind",
            provenance=PROVENANCE,
            dev_loss=3.0,
            converged=True,
            last_fifth_bits=0.0,
            temperature=0.8,
            bits=60.0,
            raw_bits=61.0,
            end_bits=1.0,
            joined={1: 59.0, 2: 60.5},
            target_pieces=12.0,
            target_words=6.0,
        ),
        variants={"none": variant("none"), "plain": variant("luong_general", bits=bits(7.0))},
    )
    return replace(made, **changes)


def exactly_known(information: Information, **readings: Estimate) -> Information:
    """Return the result of a corpus whose information is known: 35 bits, in numbers of 3 or 4 digits."""
    names = information.variants
    return replace(
        information,
        exact_bits=35.0,
        lengths=[replace(bucket, exact_bits=35.0 if bucket.sentences else None) for bucket in information.lengths],
        digits=[DigitBucket(k, 60, 34.0 + k, {name: estimate(k) for name in names}) for k in (3, 4)],
        variants={name: replace(own, exact_bits=readings.get(name, bits(9.0))) for name, own in names.items()},
    )


def with_variant(information: Information, name: str, **changes: Any) -> Information:
    own = replace(information.variants[name], **changes)
    return replace(information, variants={**information.variants, name: own})


def frozen() -> Information:
    """Return the result of none, fixed and a fresh decoder on the encoder of none, with all readings."""
    made = rereading()
    fresh = replace(made.variants["fixed"], frozen_encoder="none", difference=difference(0.5, 0.25, 0.75))
    none = replace(
        made.variants["none"],
        contrastive=ContrastiveBits(estimate(3.0), 1024, 300, 1),
        nulled=NulledBits(0.3, estimate(4.0), estimate(1.0), []),
    )
    return replace(
        made,
        variants={"none": none, "fresh": fresh, "fixed": made.variants["fixed"]},
        contrasts=[Contrast("fixed", "fresh", difference(1.5, 1.25, 1.75))],
    )
