"""The report of bits: how much of a reference reached the decoder, by sentence length, position, and training time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from hourglass.analysis.convergence import NOT_JUDGED, describe_verdict, show_verdict
from hourglass.analysis.information import (
    BlindBits,
    Contrast,
    ContrastiveBits,
    Information,
    JoinedBits,
    LearningPoint,
    NulledBits,
    VariantBits,
)
from hourglass.analysis.neck import NECK, NECK_DEFINED, neck_of
from hourglass.corpora.synthetic import Numbers
from hourglass.metrics.contrastive import ASSUMPTION as CONTRASTIVE_ASSUMPTION
from hourglass.metrics.nulled import ASSUMPTION as NULLED_ASSUMPTION
from hourglass.metrics.saturation import Saturation
from hourglass.metrics.scoring import FEW, show_bounds
from hourglass.metrics.significance import Difference, Estimate, Interval
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.phrases import (
    DIFFERENCE_HEADINGS,
    NOT_CHOOSING,
    ONCE,
    REREAD,
    cover_of_differences,
    cover_of_estimates,
    difference_cells,
    difference_line,
    estimate_line,
    length_label,
    show_range,
    widest,
)
from hourglass.reports.plots import Line, draw_lines
from hourglass.reports.sentences import say

# Attentions that give the decoder one vector and nothing else, once or at every step.
VECTOR = {ONCE: "once", REREAD: "again"}


# Attentions whose context does not depend on the decoder's state.
NO_CHOICE = {*VECTOR, *NOT_CHOOSING}


# Shares of the budget at which the table shows what was learnt.
SHARES = (0.25, 0.5, 1.0)


# What the interval of a slope or plateau covers where all variants have several seeds.
OVER_OWN_SPREAD = "over test sentences and the own seeds of the variants"


# For the top of a report.
BITS_DEFINED = say("bits", "defined")
# Before figures of a single variant: what they assume.
ABSOLUTE = say("bits", "absolute")
# What a fresh decoder on a frozen encoder takes for granted, and what one shows that is worse than the encoder's own.
FROZEN_ASSUMPTION = say("bits", "frozen_assumption")
NOT_READ = say("bits", "not_read")


class ReadingColumn(NamedTuple):
    """A way to measure bits of a variant.

    Attributes:
        heading: of its column.
        assumption: what it takes for granted.
        cells: of each variant; a dash where it was not measured.
    """

    heading: str
    assumption: str
    cells: list[str]


def readings_side_by_side(information: Information) -> list[ReadingColumn]:
    """Return the readings of all variants, those that were measured for one of them at least."""
    variants, baseline = information.variants, information.baseline

    def of_each(cell: Callable[[str, VariantBits], str]) -> list[str]:
        return [cell(name, own) for name, own in variants.items()]

    columns = [
        ReadingColumn(
            f"less {baseline}",
            say("bits", "less_assumption"),
            of_each(lambda name, _: _signed(information.less(name, baseline))),
        ),
        ReadingColumn(
            "less the blind decoder",
            ABSOLUTE,
            of_each(lambda _, own: f"{own.bits.mean:z.2f} {show_range(own.bits.interval)}"),
        ),
        ReadingColumn(
            "contrastive",
            CONTRASTIVE_ASSUMPTION,
            of_each(lambda _, own: _contrastive_cell(own.contrastive)),
        ),
        ReadingColumn(
            "source nulled",
            NULLED_ASSUMPTION,
            of_each(lambda _, own: _nulled_cell(own.nulled)),
        ),
        ReadingColumn(
            "in the vector, unused",
            say("bits", "unused_assumption"),
            of_each(lambda name, _: _signed(unused_bits(information, name))),
        ),
        ReadingColumn(
            "lost by the encoder",
            say("bits", "lost_assumption"),
            of_each(lambda name, _: _signed(lost_by_encoder(information, name))),
        ),
    ]
    return [column for column in columns if any(cell != "-" for cell in column.cells)]


def unused_bits(information: Information, variant: str) -> Difference | None:
    """Return what a fresh decoder reads from a variant's vector beyond its own; None where there is no fresh one."""
    fresh = information.frozen_from(variant)
    return None if fresh is None else information.less(fresh, variant)


def lost_by_encoder(information: Information, variant: str) -> Difference | None:
    """Return what a variant's encoder has not put into its vector.

    None where that was not measured, or the fresh decoder has not learnt to read the vector.
    """
    fresh, joint, unused = (
        information.frozen_from(variant),
        _rereading(information, variant),
        unused_bits(information, variant),
    )
    if fresh is None or joint is None or (unused is not None and reads_less(unused)):
        return None
    return information.less(joint, fresh)


def _rereading(information: Information, variant: str) -> str | None:
    """Return a variant that reads its vector at every step, trained together with an encoder as this variant has one.

    Where it is not recorded how variants were made, their encoders are taken to be alike.
    """
    encoder = _encoder_of(information.variants[variant])
    return next(
        (
            name
            for name, own in information.variants.items()
            if name != variant
            and own.attention == REREAD
            and own.frozen_encoder is None
            and (encoder is None or _encoder_of(own) in (None, encoder))
        ),
        None,
    )


def _encoder_of(own: VariantBits) -> Any:
    """Return the settings of a variant's encoder; None where they are not recorded."""
    return None if own.provenance is None else own.provenance.config.get("encoder")


def _signed(difference: Difference | None) -> str:
    return "-" if difference is None else f"{difference.value:+z.2f} {show_range(widest(difference)[0])}"


def _contrastive_cell(own: ContrastiveBits | None) -> str:
    if own is None:
        return "-"
    return f"at least {own.bits.mean:z.2f} {show_range(own.bits.interval)}, cap {own.cap:z.2f}"


def _nulled_cell(own: NulledBits | None) -> str:
    return "-" if own is None else f"{own.bits.mean:z.2f} {show_range(own.bits.interval)}"


def _readings_table(information: Information) -> Table:
    columns = readings_side_by_side(information)
    rows = [[name, *(column.cells[number] for column in columns)] for number, name in enumerate(information.variants)]
    caption = say("bits", "readings", corpus=information.corpus, assumptions=[column.assumption for column in columns])
    return Table(f"{information.corpus}-bits-readings", ["variant", *(c.heading for c in columns)], rows, caption)


def report_bits(information: Information) -> list[Block]:
    """Return the report of one corpus."""
    heading, *rest = bits_section(information)
    opening = [BITS_DEFINED, *summarise_bits(information)]
    return [heading, *map(Paragraph, opening), *rest, Paragraph(bits_provenance(information))]


def bits_provenance(information: Information) -> str:
    """Return seeds, budgets and commits of the runs; their settings are in information.json."""
    kinds = {"blind": information.blind.provenance}
    kinds |= {name: own.provenance for name, own in information.variants.items()}
    return say("bits", "provenance", made=kinds, resamples=information.resamples, sentences=information.sentences)


def bits_section(information: Information) -> list[Block]:
    """Return heading, tables, explanations and figures of one corpus, without the paragraphs of `summarise_bits`.

    Differences of two variants stand first: no blind decoder takes part in them.
    """
    name, variants, order = information.corpus, information.variants, list(information.variants)
    blocks: list[Block] = [Heading(3, f"{name}: bits through the neck")]
    if information.all_contrasts:
        blocks.append(_difference_table(information))
    if information.setting_differences:
        blocks.append(Paragraph(describe_settings(information)))
    buckets, x, few = _lengths(information)
    references = dict.fromkeys(contrast.reference for contrast in information.all_contrasts)
    for number, reference in enumerate(references, start=1):
        contrasts = [contrast.variant for contrast in information.all_contrasts if contrast.reference == reference]
        suffix = "" if number == 1 else f"-{number}"
        blocks.append(draw_bits_differences(information, f"{name}-bits-difference{suffix}", reference, contrasts))
    if information.digits:
        blocks.append(_digits_picture(information))
    blocks += map(Paragraph, explain_losses(information))
    blocks += [_readings_table(information), Paragraph(ABSOLUTE), _table(information)]
    by_length = {
        variant: [bits for number in buckets if (bits := own.by_length[number]) is not None]
        for variant, own in variants.items()
    }
    cover = _cover(by_length)
    blocks += [
        Picture(
            f"{name}-bits-by-length",
            draw_lines(
                {variant: estimate_line(x, bits, few) for variant, bits in by_length.items()},
                x_label=length_label(_recipe(information)),
                y_label="bits about the translation\nthat reach the decoder",
                order=order,
                zero=True,
                floor=_upper_limit(information, x, buckets),
                bands=cover,
            ),
            say("bits", "length_figure_alt", names=order, corpus=name),
            say("bits", "length_figure", cover=cover, exact=information.exact_bits),
        ),
        _position_picture(information),
        Picture(
            f"{name}-bits-learnt",
            draw_lines(
                {variant: _mean_learning(own.learning) for variant, own in variants.items()},
                x_label="target tokens read, millions",
                y_label="bits per dev sentence",
                order=order,
                zero=True,
            ),
            say("bits", "learnt_figure_alt", corpus=name),
            say("bits", "learnt_figure", learning=information.blind.learning),
        ),
    ]
    return blocks


def draw_bits_differences(information: Information, name: str, reference: str, variants: Sequence[str]) -> Picture:
    """Return the bits that variants receive more than another, by length of the source.

    Args:
        information: of all.
        name: of the figure's files.
        reference: the other, which is subtracted.
        variants: those that are compared with it.
    """
    buckets, x, few = _lengths(information)
    rows = {
        variant: [row for at in buckets if (row := information.less(variant, reference, at)) is not None]
        for variant in variants
    }
    cover = cover_of_differences(row for line in rows.values() for row in line)
    return Picture(
        name,
        draw_lines(
            {variant: difference_line(x, line, few) for variant, line in rows.items()},
            x_label=length_label(_recipe(information)),
            y_label=f"bits minus {reference}",
            order=list(information.variants),
            zero=True,
            bands=cover,
        ),
        say("bits", "difference_figure_alt", reference=reference, corpus=information.corpus),
        say("bits", "difference_figure", reference=reference, cover=cover),
    )


def _lengths(information: Information) -> tuple[list[int], list[float], list[bool]]:
    """Return the numbers of the length buckets with sentences, their mean lengths, and whether those are few."""
    buckets = [number for number, bucket in enumerate(information.lengths) if bucket.sentences]
    known = [information.lengths[number] for number in buckets]
    return buckets, [bucket.mean_source_words or 0.0 for bucket in known], [bucket.sentences < FEW for bucket in known]


def _recipe(information: Information) -> str | None:
    """Return the name of the recipe of a corpus; None in an old result, which was recorded without it."""
    provenance = information.blind.provenance
    return None if provenance is None else provenance.config.get("data", {}).get("name")


def summarise_bits(information: Information) -> list[str]:
    """Return the findings on one corpus in three paragraphs: a difference, the bits of each neck, the caveats.

    They are of the variants with most seeds.
    """
    variants, baseline = information.variants, information.baseline
    choosing = [name for name, own in variants.items() if name != baseline and own.attention not in NO_CHOICE]
    # The best on dev: a choice on test would favour it.
    best = min(choosing, key=lambda name: float(np.mean(variants[name].dev_loss))) if choosing else None
    main = _most_seeds(information)
    necks = [name for name in main if variants[name].attention in VECTOR and variants[name].frozen_encoder is None]
    leader = best or next((name for name in necks if name != baseline), None)
    shown = dict.fromkeys([baseline, *necks, *([best] if best else [])])
    return [
        *([" ".join(_difference_sentences(information, leader))] if leader else []),
        " ".join(
            [
                *([] if information.exact_bits is not None else [ABSOLUTE]),
                _blind_sentence(information),
                *(_neck_sentences(information, name, best) for name in shown),
            ]
        ),
        _caveats(information),
    ]


def _most_seeds(information: Information) -> list[str]:
    """Return the variants with as many seeds as the one that has most: the tables have the others, the controls."""
    most = max(len(own.dev_loss) for own in information.variants.values())
    return [name for name, own in information.variants.items() if len(own.dev_loss) == most]


def _difference_sentences(information: Information, leader: str) -> list[str]:
    """Return how the leader differs from the baseline, and both from a variant that rereads its vector."""
    variants = information.variants
    told = {*_most_seeds(information), information.baseline, leader}
    shown = [
        contrast
        for contrast in information.all_contrasts
        if {contrast.variant, contrast.reference} <= told
        and (
            contrast.variant == leader
            or (
                (variants[contrast.variant].attention, variants[contrast.reference].attention) == (REREAD, ONCE)
                and variants[contrast.variant].frozen_encoder is None
            )
        )
    ]
    shown.sort(key=lambda contrast: contrast.variant != leader)  # Stable: the baseline first.
    seen = dict.fromkeys(name for contrast in shown for name in (contrast.variant, contrast.reference))
    return [
        say("bits", "first_contrast", corpus=information.corpus, **_contrast_facts(shown[0])),
        *(say("bits", "further_contrast", **_contrast_facts(contrast)) for contrast in shown[1:]),
        say("bits", "what_decoders_see", ways={name: _access(variants[name]) for name in seen}),
    ]


def _contrast_facts(contrast: Contrast) -> dict[str, object]:
    """Return what is told of a difference: how many bits it is, and whether that grows with sentence length."""
    curve = contrast.difference.curve
    _, covers = widest(contrast.difference.whole)
    return {"contrast": contrast, "covers": covers, "length": "" if curve is None else _difference_by_length(curve)}


def _difference_by_length(curve: Saturation) -> str:
    """Return how a difference depends on the length of the source."""
    interval, covers = course_of(curve)
    return say("bits", "difference_by_length", curve=curve, interval=interval, covers=covers)


def course_of(curve: Saturation) -> tuple[Interval | None, str]:
    """Return the interval of a curve's plateau, or of its slope where it has none, and what it covers."""
    if curve.plateau is None:
        return _widest_of(curve.slope_interval, curve.slope_own_spread)
    return _widest_of(curve.plateau_interval, curve.plateau_own_spread)


def _widest_of(over_sentences: Interval | None, own_spread: Interval | None) -> tuple[Interval | None, str]:
    return (own_spread, OVER_OWN_SPREAD) if own_spread else (over_sentences, "over test sentences")


def describe_search(blind: BlindBits) -> list[str]:
    """Return a sentence where the search for the blind decoder's learning rate leaves room for a better one."""
    rates = ", ".join(f"{rate:zg}" for rate in blind.learning_rates)
    if blind.edge:
        return [say("bits", "searched_to_the_edge", edge=blind.edge, rates=rates)]
    if len(blind.learning_rates) == 1:
        return [say("bits", "not_searched", rates=rates)]
    return []


def describe_settings(information: Information) -> str:
    """Return the settings in which the runs differ beside their attention."""
    settings = "; ".join(
        f"{item.option} ({', '.join(f'{name}: {_plain(value)}' for name, value in item.values.items())})"
        for item in information.setting_differences
    )
    return say("bits", "settings", differing=settings)


def _plain(value: object) -> str:
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _access(variant: VariantBits) -> str:
    """Return how a variant's decoder receives the source."""
    if variant.attention in VECTOR:
        return VECTOR[variant.attention]
    return "average" if variant.attention in NOT_CHOOSING else "states"


def _blind_sentence(information: Information) -> str:
    return say(
        "bits",
        "blind",
        corpus=information.corpus,
        bits=information.blind.bits,
        bits_per_word=_bits_per_word(information),
        exact=information.exact_bits,
    )


def _neck_sentences(information: Information, name: str, best: str | None) -> str:
    """Return how many bits a variant receives, or lacks, and whether that levels off as sentences get longer."""
    own = information.variants[name]
    bits = own.reading
    if information.exact_bits is None and bits.widest is not None and bits.widest.high < 0:
        return say("bits", "worse_than_blind", name=name, bits=bits)
    if _near_zero(information, name):
        return say("bits", "near_zero", name=name, bits=bits, doubt=_doubt(information))
    return say(
        "bits",
        "neck",
        name=name,
        bits=bits,
        words=bits.mean / _bits_per_word(information),
        exact=information.exact_bits,
        plateau="" if name == best else _plateau_sentence(own),
    )


def _plateau_sentence(own: VariantBits) -> str:
    interval, covers = course_of(own.saturation)
    return say("bits", "plateau", curve=own.saturation, interval=interval, covers=covers, slopes=own.slopes)


def _caveats(information: Information) -> str:
    variants, blind = information.variants, information.blind
    return say(
        "bits",
        "caveats",
        unfinished=[name for name, own in variants.items() if own.verdict is False],
        short=[name for name, own in variants.items() if own.verdict is None],
        not_judged=NOT_JUDGED,
        blind=blind,
        exact=information.exact_bits is not None,
        search=" ".join(describe_search(blind)),
        settings=describe_settings(information) if information.setting_differences else "",
    )


def explain_losses(information: Information) -> list[str]:
    """Return what these runs say about the four reasons why the baseline's decoder may lack bits, a paragraph each."""
    variants, baseline = information.variants, information.baseline
    own = variants[baseline]
    periods = ("after a quarter of its budget", "after half of it", "at its end")
    texts = [
        say("bits", "reasons", baseline=baseline),
        say(
            "bits",
            "learnt_yet",
            baseline=baseline,
            learnt=[(_at_share(own.learning, share), period) for share, period in zip(SHARES, periods, strict=True)],
            learning=information.blind.learning,
            converged=own.verdict,
        ),
    ]
    rereading = _rereading(information, baseline)
    difference = variants[rereading].difference if rereading else None
    if own.attention == ONCE and rereading and difference:
        texts.append(
            say(
                "bits",
                "lost_by_decoder",
                baseline=baseline,
                rereading=rereading,
                difference=difference.whole,
                covers=widest(difference.whole)[1],
                verdict=_verdict(information, rereading, difference.whole),
            )
        )
    else:
        texts.append(say("bits", "not_compared"))
    return [*texts, _explain_encoder(information)]


def _explain_encoder(information: Information) -> str:
    """Return what a fresh decoder on the baseline's frozen encoder says about what the encoder has lost."""
    baseline = information.baseline
    fresh, unused = information.frozen_from(baseline), unused_bits(information, baseline)
    if fresh is None or unused is None:
        return say("bits", "no_fresh_decoder")
    lost = lost_by_encoder(information, baseline)
    return say(
        "bits",
        "fresh_decoder",
        baseline=baseline,
        fresh=fresh,
        unused=unused,
        unused_covers=widest(unused)[1],
        reads_less=reads_less(unused),
        joint=_rereading(information, baseline),
        lost=lost,
        lost_covers="" if lost is None else widest(lost)[1],
    )


def reads_less(unused: Difference) -> bool:
    """Whether a fresh decoder is shown to read less than the encoder's own: it is not trained to its best then."""
    interval, _ = widest(unused)
    return interval is not None and interval.high < 0


def _verdict(information: Information, rereading: str, difference: Difference) -> str:
    """Return whether forgetting by the decoder explains what the baseline lacks against a variant that rereads.

    Where missing training may explain it as well, return the verdict on the baseline's convergence.
    """
    if _near_zero(information, rereading):
        return "nothing received"
    interval = difference.widest
    if interval is None or interval.holds(0):
        return "not shown"
    if difference.value < 0:
        return "not forgetting"
    converged = information.variants[information.baseline].verdict
    return "forgets" if converged else describe_verdict(converged)


def _bits_per_word(information: Information) -> float:
    return information.blind.bits / max(information.blind.target_words, 1)


def _doubt(information: Information) -> float:
    """Return the bits that a variant may owe to a blind decoder that was still improving, 0 without one."""
    blind = information.blind
    return 0.0 if information.exact_bits is not None or blind.converged else blind.last_fifth_bits


def _near_zero(information: Information, name: str) -> bool:
    """Whether a variant's bits may be zero, given chance and a blind decoder that was still improving."""
    bits, doubt = information.variants[name].reading, _doubt(information)
    return bits.mean <= doubt or (bits.widest is not None and bits.widest.low <= doubt)


def _difference_table(information: Information) -> Table:
    joined = sorted({count for contrast in information.all_contrasts for count in contrast.difference.joined})
    rows = [
        [
            contrast.variant,
            contrast.reference,
            *difference_cells(contrast.difference.whole),
            *_curve_cells(contrast.difference.curve),
            *(_joined_difference(contrast.difference.joined.get(count)) for count in joined),
        ]
        for contrast in information.all_contrasts
    ]
    head = ["variant", "less", "bits", *DIFFERENCE_HEADINGS, "bits per source word", "word, these trained models"]
    head += ["word, own spread", "plateau", "plateau, own spread"]
    head += ["one by one, without ends" if count == 1 else f"joined by {count}" for count in joined]
    caption = say("bits", "differences", corpus=information.corpus, joined=bool(joined))
    return Table(f"{information.corpus}-bits-differences", head, rows, caption, text_columns=2)


def _joined_difference(difference: Difference | None) -> str:
    return "-" if difference is None else f"{difference.value:+z.1f} {show_range(widest(difference)[0])}"


def _curve_cells(curve: Saturation | None) -> list[str]:
    """Return five table cells: slope and plateau of a difference, with their intervals."""
    if curve is None:
        return ["-"] * 5
    slope = [f"{curve.slope:+z.2f}", show_range(curve.slope_interval), show_range(curve.slope_own_spread)]
    return [*slope, _plateau_cell(curve), show_range(curve.plateau_own_spread)]


def _table(information: Information) -> Table:
    joined = sorted({count for own in information.variants.values() for count in own.joined})
    head = [
        "variant",
        "converged",
        "bits per sentence",
        "these trained models, bits",
        "with the spread of seeds",
        "temperature",
        "bits at temperature 1",
        "bits of end of sentence",
        "bits per source word",
        "word, with the spread of seeds",
        "plateau",
        *(f"dev, {100 * share:zg} % of the budget" for share in SHARES),
        *("one by one, without ends" if count == 1 else f"joined by {count}, change" for count in joined),
        "parameters",
        NECK,
    ]
    rows = [_row(name, own, joined) for name, own in information.variants.items()]
    return Table(f"{information.corpus}-bits", head, rows, _table_caption(information), text_columns=2)


def _row(name: str, own: VariantBits, joined: Sequence[int]) -> list[str]:
    curve = own.saturation
    return [
        name,
        show_verdict(own.verdict),
        f"{own.bits.mean:z.2f}",
        show_range(own.bits.interval),
        show_range(own.bits.own_spread),
        " ".join(f"{temperature:z.2f}" for temperature in own.temperatures),
        f"{own.raw_bits.mean:z.2f}",
        f"{own.end_bits.mean:z.2f}",
        f"{curve.slope:+z.2f} {show_range(curve.slope_interval)}",
        show_range(curve.slope_own_spread),
        _plateau_cell(curve),
        *("-" if (bits := _at_share(own.learning, share)) is None else f"{bits:z.1f}" for share in SHARES),
        *(_joined_cell(own.joined, count) for count in joined),
        f"{own.parameters:,}",
        "-" if own.provenance is None else str(neck_of(own.provenance.config)),
    ]


def _plateau_cell(curve: Saturation) -> str:
    return "-" if curve.plateau is None else f"{curve.plateau:z.1f} {show_range(curve.plateau_interval)}"


def _joined_cell(joined: Mapping[int, JoinedBits], count: int) -> str:
    if count not in joined:
        return "-"
    if count == 1:
        return f"{joined[count].bits.mean:z.1f} {show_range(joined[count].bits.interval)}"
    gain = joined[count].gain
    return f"{gain.mean:+z.1f} {show_range(gain.interval)}"


def _table_caption(information: Information) -> str:
    blind = information.blind
    joined = bool(blind.joined) and any(own.joined for own in information.variants.values())
    return say("bits", "table", corpus=information.corpus, blind=blind, neck=NECK_DEFINED, joined=joined)


def _digits_picture(information: Information) -> Picture:
    buckets, order = information.digits or [], list(information.variants)
    x = [float(bucket.digits) for bucket in buckets]
    few = [bucket.sentences < FEW for bucket in buckets]
    by_digits = {name: [bucket.variants[name] for bucket in buckets] for name in order}
    cover = _cover(by_digits)
    items = information.item_names or Numbers.item_names
    return Picture(
        f"{information.corpus}-bits-by-{items.size}",
        draw_lines(
            {name: estimate_line(x, bits, few) for name, bits in by_digits.items()},
            x_label=f"{items.size} of the {items.drawn}",
            y_label=f"bits about the {items.item}\nthat reach the decoder",
            order=order,
            zero=True,
            floor=(f"information in the {items.item}", Line(x, [bucket.exact_bits for bucket in buckets])),
            bands=cover,
        ),
        say("bits", "digits_figure_alt", names=order, items=items),
        say("bits", "digits_figure", cover=cover, items=items),
    )


def _position_picture(information: Information) -> Picture:
    variants, order = information.variants, list(information.variants)
    places = [
        number
        for number in range(len(information.positions))
        if all(own.by_position[number] for own in variants.values())
    ]
    x = [float(number) for number in places]
    few = [information.positions[number].sentences < FEW for number in places]
    by_position = {
        name: [bits for number in places if (bits := own.by_position[number]) is not None]
        for name, own in variants.items()
    }
    cover = _cover(by_position)
    figure: Figure = draw_lines(
        {name: estimate_line(x, bits, few) for name, bits in by_position.items()},
        x_label="position in the translation, pieces",
        y_label="bits per piece",
        order=order,
        zero=True,
        bands=cover,
    )
    figure.axes[0].set_xticks(x, [show_bounds(information.positions[number].pieces) for number in places])
    return Picture(
        f"{information.corpus}-bits-by-position",
        figure,
        say("bits", "position_figure_alt", corpus=information.corpus),
        say("bits", "position_figure", cover=cover),
    )


def _upper_limit(information: Information, x: Sequence[float], buckets: Sequence[int]) -> tuple[str, Line]:
    lengths = [information.lengths[number] for number in buckets]
    if information.exact_bits is not None:
        return "information in the reference", Line(x, [bucket.exact_bits or 0.0 for bucket in lengths])
    return "bits that the blind decoder needs", Line(x, [bucket.blind_bits or 0.0 for bucket in lengths])


def _at_share(curves: Sequence[Sequence[LearningPoint]], share: float) -> float | None:
    """Return the mean over seeds of learning curves at a share of their budget, interpolated between validations.

    None where a seed has no validation up to there.
    """
    values = []
    for curve in curves:
        if not curve:
            return None
        tokens, bits = zip(*curve, strict=True)
        if share * tokens[-1] < tokens[0]:
            return None
        values.append(float(np.interp(share * tokens[-1], tokens, bits)))
    return sum(values) / len(values)


def _cover(lines: Mapping[str, Sequence[Estimate]]) -> str:
    return cover_of_estimates(estimate for line in lines.values() for estimate in line)


def _mean_learning(curves: Sequence[Sequence[LearningPoint]]) -> Line:
    # Validations of one number stand side by side: where one seed lacks early ones, from the last backwards.
    shortest = min(map(len, curves))
    points = list(zip(*(curve[len(curve) - shortest :] for curve in curves), strict=True))
    x = [sum(point.target_tokens for point in each) / len(each) / 1e6 for each in points]
    return Line(x, [sum(point.bits for point in each) / len(each) for each in points])
