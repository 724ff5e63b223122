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
    Provenance,
    VariantBits,
)
from hourglass.analysis.neck import NECK, NECK_DEFINED, neck_of
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
    in_brackets,
    show_range,
    widest,
)
from hourglass.reports.plots import Line, draw_lines

# How the decoder receives the source, for attentions that give it one vector and nothing else.
VECTOR = {
    "none": "receives one fixed vector, before its first step",
    REREAD: "reads the same fixed vector at every step",
}


AVERAGES = "receives the average of all encoder states, the same at every step"
LOOKS_BACK = "looks back at all encoder states, and weights them anew at every step"


# Attentions whose context does not depend on the decoder's state.
NO_CHOICE = {*VECTOR, *NOT_CHOOSING}


# Shares of the budget at which the table shows what was learnt.
SHARES = (0.25, 0.5, 1.0)


# For the top of a report.
BITS_DEFINED = (
    "How to read bits. A decoder needs minus log2 of the probability that it assigns to the reference translation, in "
    "bits, summed over the tokens. The more it knows about the source, the fewer bits it needs. So bits that one "
    "decoder saves over another measure what it knows more. Differences between two variants are the firmest figures: "
    "they rest on the likelihoods of two models and on nothing else. Figures against a decoder that never sees the "
    "source (the blind decoder) also depend on how well that decoder is trained."
)


# For captions of tables with plateaus.
PLATEAU_DEFINED = (
    "Plateau: shown only if held-out likelihood prefers a curve that levels off, this curve reaches 90 % of its "
    "plateau within the observed lengths, and the longest third of the sentences is flat; or if all lengths are."
)


# What the interval of a slope or plateau covers where all variants have several seeds.
OVER_OWN_SPREAD = "over test sentences and the own seeds of the variants"


# Before figures of a single variant: what they assume.
ABSOLUTE = (
    "Bits of a single variant assume that the blind decoder is trained as near to its best as the variant: every bit "
    "that it needs too many counts as one from the source."
)


# What a fresh decoder on a frozen encoder takes for granted.
FROZEN_ASSUMPTION = (
    "Frozen encoder: assumes that the fresh decoder is trained as near to its best as the one that it is compared "
    "with; what it cannot read, another might."
)


# Where a fresh decoder is worse than the encoder's own.
NOT_READ = (
    "A fresh decoder that reads less than the encoder's own has not learnt to read the vector, as it may where the "
    "numbers in the vector are large: this says nothing about the encoder. Another learning rate, more training or an "
    "encoder of summary_tanh=true may help."
)


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
            "Difference of two variants: assumes nothing beside the two models.",
            of_each(lambda name, _: _signed(information.less(name, baseline))),
        ),
        ReadingColumn(
            "less the blind decoder",
            ABSOLUTE,
            of_each(lambda _, own: f"{own.bits.mean:.2f} {show_range(own.bits.interval)}"),
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
            f"{FROZEN_ASSUMPTION} In the vector, unused: what it receives more than the encoder's own decoder.",
            of_each(lambda name, _: _signed(unused_bits(information, name))),
        ),
        ReadingColumn(
            "lost by the encoder",
            "Lost by the encoder: what attention=fixed, trained together with its encoder, receives more than the "
            "fresh decoder; assumes the same of the two.",
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
    return "-" if difference is None else f"{difference.value:+.2f} {show_range(widest(difference)[0])}"


def _contrastive_cell(own: ContrastiveBits | None) -> str:
    if own is None:
        return "-"
    return f"at least {own.bits.mean:.2f} {show_range(own.bits.interval)}, cap {own.cap:.2f}"


def _nulled_cell(own: NulledBits | None) -> str:
    return "-" if own is None else f"{own.bits.mean:.2f} {show_range(own.bits.interval)}"


def _readings_table(information: Information) -> Table:
    columns = readings_side_by_side(information)
    rows = [[name, *(column.cells[number] for column in columns)] for number, name in enumerate(information.variants)]
    caption = " ".join(
        [
            f"All readings of {information.corpus} side by side, bits per sentence; 95 % intervals.",
            *(column.assumption for column in columns),
        ]
    )
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
    each = "; ".join(f"{name}: {_made(provenance)}" for name, provenance in kinds.items())
    return (
        f"How it was made. {each}. {information.resamples:,} bootstrap resamples of {information.sentences:,} test "
        "sentences."
    )


def _made(provenance: Provenance | None) -> str:
    if provenance is None:
        return "not recorded"
    seeds, commits = ", ".join(map(str, provenance.seeds)), ", ".join(dict.fromkeys(provenance.commits))
    return f"seed {seeds}, {max(provenance.target_tokens):,} target tokens, commit {commits}"


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
    buckets = [number for number, bucket in enumerate(information.lengths) if bucket.sentences]
    x = [information.lengths[number].mean_source_words or 0.0 for number in buckets]
    few = [information.lengths[number].sentences < FEW for number in buckets]
    length = "mean source words of a bucket"
    references = dict.fromkeys(contrast.reference for contrast in information.all_contrasts)
    for number, reference in enumerate(references, start=1):
        contrasts = [contrast for contrast in information.all_contrasts if contrast.reference == reference]
        rows = {
            contrast.variant: [row for at in buckets if (row := contrast.difference.by_length[at]) is not None]
            for contrast in contrasts
        }
        cover = cover_of_differences(row for line in rows.values() for row in line)
        blocks.append(
            Picture(
                f"{name}-bits-difference{'' if number == 1 else f'-{number}'}",
                draw_lines(
                    {variant: difference_line(x, line, few) for variant, line in rows.items()},
                    x_label=length,
                    y_label=f"bits minus {reference}",
                    order=order,
                    zero=True,
                    bands=cover,
                ),
                f"Bits that variants receive more than {reference} on {name}, by sentence length",
                f"Bits that a variant's decoder receives more than that of {reference}, by sentence length. "
                f"Bands: pointwise 95 %, {cover}. The blind decoder cancels, so no assumption is needed.",
            )
        )
    if information.digits:
        blocks.append(_digits_picture(information))
    blocks += map(Paragraph, explain_losses(information))
    blocks += [_readings_table(information), Paragraph(ABSOLUTE), _table(information)]
    by_length = {
        variant: [bits for number in buckets if (bits := own.by_length[number]) is not None]
        for variant, own in variants.items()
    }
    cover = _cover(by_length)
    if information.exact_bits is not None:
        limit = (
            "The dotted line is the information in a reference, which is known for this corpus. All curves are too "
            "high by the bits that the blind decoder needs beyond it."
        )
    else:
        limit = "The dotted line, the bits that the blind decoder needs, is the upper limit."
    blocks += [
        Picture(
            f"{name}-bits-by-length",
            draw_lines(
                {variant: estimate_line(x, bits, few) for variant, bits in by_length.items()},
                x_label=length,
                y_label="bits about the translation\nthat reach the decoder",
                order=order,
                zero=True,
                floor=_upper_limit(information, x, buckets),
                bands=cover,
            ),
            f"Bits about the translation that reach the decoder of {', '.join(order)} on {name}, by sentence length",
            "Bits about the translation that reach the decoder, by sentence length. Bands: pointwise 95 %, "
            f"{cover}. {limit}",
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
            f"Bits that reach the decoder on {name} during training",
            f"Bits per dev sentence during training, at temperature 1, against {_blind_in_training(information)}. A "
            "line begins at the first validation that can be compared. One that still rises at its end belongs to a "
            "variant that needs more training: its bits show what it has learnt so far, not what its vector can hold.",
        ),
    ]
    return blocks


def summarise_bits(information: Information) -> list[str]:
    """Return the findings on one corpus in three paragraphs: a difference, the bits of each neck, the caveats."""
    variants, baseline = information.variants, information.baseline
    choosing = [name for name, own in variants.items() if name != baseline and own.attention not in NO_CHOICE]
    # The best on dev: a choice on test would favour it.
    best = min(choosing, key=lambda name: float(np.mean(variants[name].dev_loss))) if choosing else None
    necks = [name for name, own in variants.items() if own.attention in VECTOR and own.frozen_encoder is None]
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
        " ".join(_caveats(information)),
    ]


def _difference_sentences(information: Information, leader: str) -> list[str]:
    """Return how the leader differs from the baseline, and both from a variant that rereads its vector."""
    variants = information.variants
    shown = [
        contrast
        for contrast in information.all_contrasts
        if contrast.variant == leader
        or (
            (variants[contrast.variant].attention, variants[contrast.reference].attention) == (REREAD, ONCE)
            and variants[contrast.variant].frozen_encoder is None
        )
    ]
    shown.sort(key=lambda contrast: contrast.variant != leader)  # Stable: the baseline first.
    seen = dict.fromkeys(name for contrast in shown for name in (contrast.variant, contrast.reference))
    described = "; ".join(f"{name} {_access(variants[name])}" for name in seen)
    return [
        f"On {information.corpus}, {_contrast_sentence(shown[0], 'variant')}",
        *(_contrast_sentence(contrast, "Variant") for contrast in shown[1:]),
        f"What their decoders see of the source: {described}.",
    ]


def _contrast_sentence(contrast: Contrast, start: str) -> str:
    """Return how many bits fewer a variant needs than another, and whether that grows with sentence length."""
    interval, of = widest(contrast.difference.whole)
    text = (
        f"{start} {contrast.variant} needs {_fewer(contrast.difference.whole.value)} per sentence than variant "
        f"{contrast.reference}{in_brackets(interval, of)}."
    )
    curve = contrast.difference.curve
    return text if curve is None else f"{text} {_difference_by_length(curve)}"


def _difference_by_length(curve: Saturation) -> str:
    """Return how a difference depends on the length of the source."""
    if curve.plateau is None:
        interval, of = _widest_of(curve.slope_interval, curve.slope_own_spread)
        return f"Each further source word changes this difference by {curve.slope:+.2f} bits{_to_two(interval, of)}."
    interval, of = _widest_of(curve.plateau_interval, curve.plateau_own_spread)
    if curve.flat:
        return (
            f"It is the same for all observed lengths, from {curve.shortest:.0f} to {curve.longest:.0f} words: "
            f"{curve.plateau:+.1f} bits{in_brackets(interval, of)}."
        )
    return f"It levels off at {curve.plateau:+.1f} bits{in_brackets(interval, of)} as sentences get longer."


def _widest_of(over_sentences: Interval | None, own_spread: Interval | None) -> tuple[Interval | None, str]:
    return (own_spread, OVER_OWN_SPREAD) if own_spread else (over_sentences, "over test sentences")


def _to_two(interval: Interval | None, covers: str) -> str:
    return f" (95 % interval {interval.low:+.2f} to {interval.high:+.2f}, {covers})" if interval else ""


def describe_search(blind: BlindBits) -> list[str]:
    """Return a sentence where the search for the blind decoder's learning rate leaves room for a better one."""
    rates = ", ".join(f"{rate:g}" for rate in blind.learning_rates)
    if blind.edge:
        return [
            f"The blind decoder's learning rate is the {blind.edge} that was tried ({rates}): a better may lie beyond."
        ]
    if len(blind.learning_rates) == 1:
        return [f"The blind decoder's learning rate was not searched: {rates} alone was tried."]
    return []


def describe_settings(information: Information) -> str:
    """Return the settings in which the runs differ beside their attention."""
    settings = "; ".join(
        f"{item.option} ({', '.join(f'{name}: {_plain(value)}' for name, value in item.values.items())})"
        for item in information.setting_differences
    )
    return (
        "The runs also differ in settings other than the attention, and a difference in bits may be due to these as "
        f"well: {settings}."
    )


def _plain(value: object) -> str:
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _access(variant: VariantBits) -> str:
    """Return how a variant's decoder receives the source."""
    if variant.attention in VECTOR:
        return VECTOR[variant.attention]
    return AVERAGES if variant.attention in NOT_CHOOSING else LOOKS_BACK


def _blind_sentence(information: Information) -> str:
    blind = information.blind
    text = (
        f"The blind decoder needs {blind.bits:.1f} bits per sentence of {information.corpus}, which is "
        f"{_bits_per_word(information):.1f} bits per word."
    )
    if information.exact_bits is None:
        return text
    return (
        f"The references hold {information.exact_bits:.1f} bits each; for this corpus that is known exactly. {text} "
        "The figures that follow compare each variant with the known information, not with the blind decoder."
    )


def _neck_sentences(information: Information, name: str, best: str | None) -> str:
    """Return how many bits a variant receives, and whether that levels off as sentences get longer."""
    own = information.variants[name]
    bits = own.reading
    certainty = in_brackets(bits.widest, _certainty(bits))
    if _near_zero(information, name):
        return (
            f"The bits that variant {name} receives cannot be told from zero: {bits.mean:.1f}{certainty}. The data do "
            "not show whether its vector cannot hold them or its training has not learnt to use them."
        )
    words = f"about as much as {bits.mean / _bits_per_word(information):.1f} words of the translation"
    if information.exact_bits is None:
        text = f"Variant {name} needs {_fewer(bits.mean)} than the blind decoder{certainty}: {words}."
    else:
        text = f"Variant {name} receives {bits.mean:.1f} of the {information.exact_bits:.1f} bits{certainty}: {words}."
    return text if name == best else f"{text} {_plateau_sentence(own)}"


def _plateau_sentence(own: VariantBits) -> str:
    curve = own.saturation
    if curve.plateau is None:
        interval, of = _widest_of(curve.slope_interval, curve.slope_own_spread)
        seeds = f"; by seed: {', '.join(f'{slope:+.2f}' for slope in own.slopes)}" if len(own.slopes) > 1 else ""
        return (
            f"Up to {curve.longest:.0f} source words, this figure has no plateau that can be shown: each further word "
            f"changes it by {curve.slope:+.2f} bits {show_range(interval)} ({of}{seeds})."
        )
    interval, of = _widest_of(curve.plateau_interval, curve.plateau_own_spread)
    certainty = in_brackets(interval, of)
    if curve.flat:
        return (
            f"This figure is the same for all observed lengths, from {curve.shortest:.0f} to {curve.longest:.0f} "
            f"words: {curve.plateau:.1f} bits{certainty}. Longer sentences add nothing to it."
        )
    return f"This figure levels off at {curve.plateau:.1f} bits{certainty} as sentences get longer."


def _caveats(information: Information) -> list[str]:
    blind, exact = information.blind, information.exact_bits is not None
    texts = ["How far these figures go."]
    unfinished = [name for name, own in information.variants.items() if own.verdict is False]
    if unfinished:
        texts.append(
            f"These variants had not converged: {', '.join(unfinished)}. More training may raise their figures."
        )
    short = [name for name, own in information.variants.items() if own.verdict is None]
    if short:
        texts.append(f"Of these variants convergence cannot be told: {', '.join(short)}. {NOT_JUDGED}")
    if not blind.converged and not exact:
        texts.append(
            f"The blind decoder {describe_verdict(blind.converged)}: the last fifth of its training still saved "
            f"{blind.last_fifth_bits:.1f} bits per sentence. Its missing training makes all figures against it too "
            "high; a variant's own missing training makes the variant's figure too low. Differences between two "
            "variants do not depend on the blind decoder."
        )
    texts.append(
        "All figures are bits about the translation that the decoder used. They are not the capacity of the vector, "
        "and not bits of the source."
    )
    if not exact:
        texts.append("A better blind decoder would lower all figures against it by the same amount.")
        texts += describe_search(blind)
    if information.setting_differences:
        texts.append(describe_settings(information))
    texts.append("A wider vector, more training or another language pair may change each figure.")
    return texts


def explain_losses(information: Information) -> list[str]:
    """Return what these runs say about the four reasons why the baseline's decoder may lack bits, a paragraph each."""
    variants, baseline = information.variants, information.baseline
    own = variants[baseline]
    periods = zip(("after a quarter of its budget", "after half of it", "at its end"), SHARES, strict=True)
    learnt = [
        f"{bits:.1f} {period}" for period, share in periods if (bits := _at_share(own.learning, share)) is not None
    ]
    received = (
        f"On dev, variant {baseline} received so many bits per sentence, against {_blind_in_training(information)}: "
        f"{' and '.join(filter(None, (', '.join(learnt[:-1]), learnt[-1])))}."
        if learnt
        else f"No validation of variant {baseline} can be compared with one of the blind decoder."
    )
    texts = [
        f"What keeps bits from the decoder of variant {baseline}? There are four possible reasons, and all of them "
        "look alike in one figure.",
        f"Not learnt yet? {received} It {describe_verdict(own.verdict)}. (These figures are at temperature 1, where "
        "label smoothing lowers them.)",
    ]
    rereading = _rereading(information, baseline)
    if own.attention == "none" and rereading:
        difference = variants[rereading].difference
        assert difference is not None
        interval, of = widest(difference.whole)
        texts.append(
            f"Lost by the decoder? Variant {rereading} reads such a vector at every step and needs "
            f"{_fewer(difference.whole.value)} per sentence than variant {baseline}{in_brackets(interval, of)}. "
            f"{_verdict(information, rereading)}"
        )
    else:
        texts.append(
            "Lost by the decoder? To answer that, fixed has to be compared with none of the same encoder, and one is "
            "missing here."
        )
    return [*texts, _explain_encoder(information)]


def _explain_encoder(information: Information) -> str:
    """Return what a fresh decoder on the baseline's frozen encoder says about what the encoder has lost."""
    baseline = information.baseline
    fresh, unused = information.frozen_from(baseline), unused_bits(information, baseline)
    if fresh is None or unused is None:
        return (
            "Vector too small, or lost by the encoder? These runs vary neither the width of the vector alone nor the "
            "reading order alone, so they cannot answer that. The capacity sweep (pipelines/capacity) varies both; a "
            "fresh decoder on the frozen encoder (pipelines/probes.py, fresh=true) tells what the encoder has lost."
        )
    texts = [
        f"Lost by the encoder? Variant {fresh} is a fresh decoder on the encoder of variant {baseline}, which does not "
        f"move, and reads the vector at every step. It needs {_fewer(unused.value)} than the encoder's own decoder"
        f"{in_brackets(*widest(unused))}: {'so many were' if _is_above_zero(unused) else 'nothing was shown to be'} in "
        "the vector and unused.",
    ]
    if reads_less(unused):
        return f"{texts[0]} {NOT_READ} {FROZEN_ASSUMPTION}"
    joint, lost = _rereading(information, baseline), lost_by_encoder(information, baseline)
    if joint is None or lost is None:
        texts.append(
            "What was not put in, a run of attention=fixed with the same encoder would tell, and it is missing here."
        )
    else:
        texts.append(
            f"Variant {joint}, whose encoder was trained together with such a decoder, needs {_fewer(lost.value)} than "
            f"{fresh}{in_brackets(*widest(lost))}: "
            f"{'so many the encoder has lost' if _is_above_zero(lost) else 'no loss by the encoder is shown'}, in a "
            "vector of the same width."
        )
    return " ".join([*texts, FROZEN_ASSUMPTION])


def reads_less(unused: Difference) -> bool:
    """Whether a fresh decoder is shown to read less than the encoder's own: it is not trained to its best then."""
    interval, _ = widest(unused)
    return interval is not None and interval.high < 0


def _is_above_zero(difference: Difference) -> bool:
    interval, _ = widest(difference)
    return interval is not None and interval.low > 0


def _verdict(information: Information, rereading: str) -> str:
    """Return whether forgetting by the decoder explains what the baseline lacks against a variant that rereads."""
    baseline = information.baseline
    difference = information.variants[rereading].difference
    assert difference is not None
    interval, _ = widest(difference.whole)
    if _near_zero(information, rereading):
        return f"But {rereading} itself received nothing, so this tells nothing about what variant {baseline} forgets."
    if interval is None or interval.holds(0):
        return f"This does not show that the decoder of variant {baseline} forgets its vector."
    if difference.whole.value < 0:
        return "So forgetting by the decoder is not the reason."
    verdict = information.variants[baseline].verdict
    if verdict:
        return "So a vector of this width can hold that much, and a decoder that receives it once does not use it."
    return (
        f"So a vector of this width can hold that much. But variant {baseline} {describe_verdict(verdict)}, so these "
        "runs cannot separate loss by the decoder from missing training."
    )


def _bits_per_word(information: Information) -> float:
    return information.blind.bits / max(information.blind.target_words, 1)


def _certainty(bits: Estimate) -> str:
    """Return what an interval of bits covers."""
    if len(bits.by_seed) == 1:
        return "over test sentences; another training may differ by more"
    of = "over test sentences and trainings" if bits.own_spread else "over test sentences"
    return f"{of}; by seed: {', '.join(f'{value:.1f}' for value in bits.by_seed)}"


def _fewer(bits: float) -> str:
    return f"{abs(bits):.1f} bits {'fewer' if bits >= 0 else 'more'}"


def _near_zero(information: Information, name: str) -> bool:
    """Whether a variant's bits may be zero, given chance and a blind decoder that was still improving."""
    bits, blind = information.variants[name].reading, information.blind
    doubt = 0.0 if information.exact_bits is not None or blind.converged else blind.last_fifth_bits
    return bits.mean <= doubt or (bits.widest is not None and bits.widest.low <= doubt)


def _blind_in_training(information: Information) -> str:
    """Return the blind decoder that the curves of training are held against."""
    return f"the blind decoder {'after as many target tokens' if information.blind.learning else 'at its best'}"


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
    caption = (
        f"Bits per sentence that the decoder of a variant receives more than that of another on {information.corpus}: "
        "the reference's bits under the one less those under the other, sentence by sentence. No blind decoder takes "
        "part. Bits per source word: the slope of the difference over the length of the source. These trained models: "
        "95 % over test sentences. Own spread: over test sentences and the two variants' own seeds; a dash where one "
        f"has a single seed, and nothing is known of another training. {PLATEAU_DEFINED}"
    )
    if joined:
        caption += (
            " Joined: that many consecutive test sentences are one input, longer than those of training; bits of each "
            "sentence, ends of sentence not counted."
        )
    return Table(f"{information.corpus}-bits-differences", head, rows, caption, text_columns=2)


def _joined_difference(difference: Difference | None) -> str:
    return "-" if difference is None else f"{difference.value:+.1f} {show_range(widest(difference)[0])}"


def _curve_cells(curve: Saturation | None) -> list[str]:
    """Return five table cells: slope and plateau of a difference, with their intervals."""
    if curve is None:
        return ["-"] * 5
    slope = [f"{curve.slope:+.2f}", show_range(curve.slope_interval), show_range(curve.slope_own_spread)]
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
        *(f"dev, {100 * share:g} % of the budget" for share in SHARES),
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
        f"{own.bits.mean:.2f}",
        show_range(own.bits.interval),
        show_range(own.bits.own_spread),
        " ".join(f"{temperature:.2f}" for temperature in own.temperatures),
        f"{own.raw_bits.mean:.2f}",
        f"{own.end_bits.mean:.2f}",
        f"{curve.slope:+.2f} {show_range(curve.slope_interval)}",
        show_range(curve.slope_own_spread),
        _plateau_cell(curve),
        *("-" if (bits := _at_share(own.learning, share)) is None else f"{bits:.1f}" for share in SHARES),
        *(_joined_cell(own.joined, count) for count in joined),
        f"{own.parameters:,}",
        "-" if own.provenance is None else str(neck_of(own.provenance.config)),
    ]


def _plateau_cell(curve: Saturation) -> str:
    return "-" if curve.plateau is None else f"{curve.plateau:.1f} {show_range(curve.plateau_interval)}"


def _joined_cell(joined: Mapping[int, JoinedBits], count: int) -> str:
    if count not in joined:
        return "-"
    if count == 1:
        return f"{joined[count].bits.mean:.1f} {show_range(joined[count].bits.interval)}"
    gain = joined[count].gain
    return f"{gain.mean:+.1f} {show_range(gain.interval)}"


def _table_caption(information: Information) -> str:
    blind = information.blind
    caption = (
        f"Bits about the reference that reach the decoder on {information.corpus}: test set, per sentence, means over "
        f"seeds. Bits: what the blind decoder needs ({blind.bits:.2f}; {blind.end_bits:.2f} of them for end of "
        f"sentence; temperature {blind.temperature:.2f}; {blind.raw_bits:.2f} at temperature 1) minus what the variant "
        "needs. A temperature, fitted on dev, corrects for label smoothing. Bits estimate usable information about the "
        "target; they are a lower bound only if the blind decoder's excess loss is no larger than the variant's. "
        f"{PLATEAU_DEFINED} Dev: at temperature 1, against {_blind_in_training(information)}, interpolated between "
        f"validations. It shows what is not learnt yet. {NECK_DEFINED}"
    )
    if blind.joined and any(own.joined for own in information.variants.values()):
        needed = ", ".join(
            f"{bits:.1f} {'one by one' if count == 1 else f'joined by {count}'}" for count, bits in blind.joined.items()
        )
        caption += (
            " Joined: that many consecutive test sentences are one input, and the cell shows how many more bits of "
            "each sentence arrive than when the same sentences are read one by one. Ends of sentence are not counted, "
            "and no sentence may end where the next begins. The content is the same, and the input longer. But no "
            "decoder saw such inputs in training, and what the blind decoder loses by that counts as bits: it needs "
            f"{needed}."
        )
    return caption


def _digits_picture(information: Information) -> Picture:
    buckets, order = information.digits or [], list(information.variants)
    x = [float(bucket.digits) for bucket in buckets]
    few = [bucket.sentences < FEW for bucket in buckets]
    by_digits = {name: [bucket.variants[name] for bucket in buckets] for name in order}
    cover = _cover(by_digits)
    if information.corpus == "shapes":
        size, whole, text = "shapes", "caption", _BITS_OF_CAPTIONS
    else:
        size, whole, text = "digits", "number", _BITS_OF_NUMBERS
    owner = "picture" if size == "shapes" else "number"
    return Picture(
        f"{information.corpus}-bits-by-{size}",
        draw_lines(
            {name: estimate_line(x, bits, few) for name, bits in by_digits.items()},
            x_label=f"{size} of the {owner}",
            y_label=f"bits about the {whole}\nthat reach the decoder",
            order=order,
            zero=True,
            floor=(f"information in the {whole}", Line(x, [bucket.exact_bits for bucket in buckets])),
            bands=cover,
        ),
        f"Bits about a {whole} that reach the decoder of {', '.join(order)}, by the number of its {size}",
        f"Bits about a {whole} that reach the decoder, by its {size}. Bands: pointwise 95 %, {cover}. {text}",
    )


_BITS_OF_NUMBERS = (
    "The information in a number is known exactly: all digit counts are equally likely, and so are the 9 * 10^(k-1) "
    "numbers of k digits. So no blind decoder is needed: the figure is this information minus the bits that the "
    "variant needs. (No number stands in two splits, so a decoder that knew all of train by heart would need slightly "
    "fewer bits for numbers of few digits.)"
)
_BITS_OF_CAPTIONS = (
    "The information in a caption is known exactly: all numbers of shapes are equally likely, and so are all scenes of "
    "so many shapes. So no blind decoder is needed: the figure is this information minus the bits that the variant "
    "needs. (No scene is in two splits, so a decoder that knew all of train by heart would need slightly fewer bits "
    "for captions of few shapes.)"
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
        f"Bits per piece that reach the decoder on {information.corpus}, by the piece's position in the translation",
        "Bits per piece, by its position in the translation, over all sentences that are long enough. Late positions "
        "exist in long sentences only, so the text differs from position to position: compare the lines at one "
        f"position. End of sentence is left out. Bands: pointwise 95 %, {cover}.",
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
