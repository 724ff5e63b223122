"""The report of bits: how much of a reference reached the decoder, by sentence length, position, and training time."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from hourglass.analysis.convergence import NOT_JUDGED, describe_verdict, show_verdict
from hourglass.analysis.information import (
    Information,
    JoinedBits,
    LearningPoint,
    Provenance,
    VariantBits,
)
from hourglass.metrics.saturation import Saturation
from hourglass.metrics.scoring import FEW, show_bounds
from hourglass.metrics.significance import Estimate
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.phrases import (
    DIFFERENCE_HEADINGS,
    NOT_CHOOSING,
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
    """Return heading, explanations, table and figures of one corpus, without the paragraphs of `summarise_bits`."""
    name, variants, order = information.corpus, information.variants, list(information.variants)
    blocks: list[Block] = [
        Heading(3, f"{name}: bits through the neck"),
        *map(Paragraph, explain_losses(information)),
        _table(information),
    ]
    buckets = [number for number, bucket in enumerate(information.lengths) if bucket.sentences]
    x = [information.lengths[number].mean_source_words or 0.0 for number in buckets]
    few = [information.lengths[number].sentences < FEW for number in buckets]
    length = "mean source words of a bucket"
    differences = {
        variant: [row for number in buckets if (row := own.difference.by_length[number]) is not None]
        for variant, own in variants.items()
        if own.difference is not None
    }
    if differences:
        cover = cover_of_differences(row for rows in differences.values() for row in rows)
        blocks.append(
            Picture(
                f"{name}-bits-difference",
                draw_lines(
                    {variant: difference_line(x, rows, few) for variant, rows in differences.items()},
                    x_label=length,
                    y_label=f"bits minus {information.baseline}",
                    order=order,
                    zero=True,
                    bands=cover,
                ),
                f"Bits that each variant receives more than {information.baseline} on {name}, by sentence length",
                f"Bits that a variant's decoder receives more than that of {information.baseline}, by sentence length. "
                f"Bands: pointwise 95 %, {cover}. The blind decoder cancels, so no assumption is needed.",
            )
        )
    if information.digits:
        blocks.append(_digits_picture(information))
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
            "Bits per dev sentence during training, at temperature 1. A line that still rises at its end belongs to a "
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
    necks = [name for name, own in variants.items() if own.attention in VECTOR]
    leader = best or next((name for name in necks if name != baseline), None)
    shown = dict.fromkeys([baseline, *necks, *([best] if best else [])])
    return [
        *([_difference_sentence(information, leader)] if leader else []),
        " ".join([_blind_sentence(information), *(_neck_sentences(information, name, best) for name in shown)]),
        " ".join(_caveats(information)),
    ]


def _difference_sentence(information: Information, leader: str) -> str:
    variants, baseline = information.variants, information.baseline
    difference = variants[leader].difference
    assert difference is not None
    interval, of = widest(difference.whole)
    described = "; ".join(f"{name} {_access(variants[name])}" for name in (leader, baseline))
    return (
        f"On {information.corpus}, variant {leader} needs {_fewer(difference.whole.value)} per sentence than variant "
        f"{baseline}{in_brackets(interval, of)}. What their decoders see of the source: {described}."
    )


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
        seeds = f"; by seed: {', '.join(f'{slope:+.2f}' for slope in own.slopes)}" if len(own.slopes) > 1 else ""
        return (
            f"Up to {curve.longest:.0f} source words, this figure has no plateau that can be shown: each further word "
            f"changes it by {curve.slope:+.2f} bits {show_range(curve.slope_interval)} (over test sentences{seeds})."
        )
    certainty = in_brackets(curve.plateau_interval, "over test sentences")
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
    learning = " and ".join(filter(None, (", ".join(learnt[:-1]), learnt[-1])))
    texts = [
        f"What keeps bits from the decoder of variant {baseline}? There are four possible reasons, and all of them "
        "look alike in one figure.",
        f"Not learnt yet? On dev, variant {baseline} received so many bits per sentence: {learning}. It "
        f"{describe_verdict(own.verdict)}. (These figures are at temperature 1, where label smoothing lowers them.)",
    ]
    rereading = next((name for name, other in variants.items() if name != baseline and other.attention == REREAD), None)
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
            "Lost by the decoder? To answer that, fixed has to be compared with none, and one is missing here."
        )
    texts.append(
        "Vector too small, or lost by the encoder? These runs vary neither the width of the vector alone nor the "
        "reading order alone, so they cannot answer that. The capacity sweep (pipelines/capacity) varies both."
    )
    return texts


def _verdict(information: Information, rereading: str) -> str:
    """Return whether forgetting by the decoder explains what the baseline lacks against a variant that rereads."""
    baseline = information.baseline
    difference = information.variants[rereading].difference
    assert difference is not None
    interval, _ = widest(difference.whole)
    if _near_zero(information, rereading):
        return f"But {rereading} itself received nothing, so this tells nothing about what variant {baseline} forgets."
    if interval is None or interval.low <= 0 <= interval.high:
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


def _table(information: Information) -> Table:
    baseline = information.baseline
    joined = sorted({count for own in information.variants.values() for count in own.joined})
    head = [
        "variant",
        "converged",
        f"bits minus {baseline}",
        *DIFFERENCE_HEADINGS,
        "bits per sentence",
        "these trained models, bits",
        "with the spread of seeds",
        "temperature",
        "bits at temperature 1",
        "bits of end of sentence",
        "bits per source word",
        "plateau",
        *(f"dev, {100 * share:g} % of the budget" for share in SHARES),
        *("one by one, without ends" if count == 1 else f"joined by {count}, change" for count in joined),
        "parameters",
    ]
    rows = [_row(name, own, joined) for name, own in information.variants.items()]
    return Table(f"{information.corpus}-bits", head, rows, _table_caption(information), text_columns=2)


def _row(name: str, own: VariantBits, joined: Sequence[int]) -> list[str]:
    curve = own.saturation
    return [
        name,
        show_verdict(own.verdict),
        *difference_cells(own.difference.whole if own.difference else None),
        f"{own.bits.mean:.2f}",
        show_range(own.bits.interval),
        show_range(own.bits.own_spread),
        " ".join(f"{temperature:.2f}" for temperature in own.temperatures),
        f"{own.raw_bits.mean:.2f}",
        f"{own.end_bits.mean:.2f}",
        f"{curve.slope:+.2f} {show_range(curve.slope_interval)}",
        _plateau_cell(curve),
        *("-" if (bits := _at_share(own.learning, share)) is None else f"{bits:.1f}" for share in SHARES),
        *(_joined_cell(own.joined, count) for count in joined),
        f"{own.parameters:,}",
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
        f"seeds. The columns up to own spread compare a variant with {information.baseline}; the blind decoder cancels "
        f"in them. Bits: what the blind decoder needs ({blind.bits:.2f}; {blind.end_bits:.2f} of them for end of "
        f"sentence; temperature {blind.temperature:.2f}; {blind.raw_bits:.2f} at temperature 1) minus what the variant "
        "needs. A temperature, fitted on dev, corrects for label smoothing. Bits estimate usable information about the "
        "target; they are a lower bound only if the blind decoder's excess loss is no larger than the variant's. "
        "Plateau: shown only if held-out likelihood prefers a curve that levels off, this curve reaches 90 % of its "
        "plateau within the observed lengths, and the longest third of the sentences is flat; or if all lengths are. "
        "Dev: at temperature 1, against the blind decoder at its best, interpolated between validations. It shows what "
        "is not learnt yet."
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
    return Picture(
        f"{information.corpus}-bits-by-digits",
        draw_lines(
            {name: estimate_line(x, bits, few) for name, bits in by_digits.items()},
            x_label="digits of the number",
            y_label="bits about the number\nthat reach the decoder",
            order=order,
            zero=True,
            floor=("information in the number", Line(x, [bucket.exact_bits for bucket in buckets])),
            bands=cover,
        ),
        f"Bits about a number that reach the decoder of {', '.join(order)}, by the number of its digits",
        "Bits about a number that reach the decoder, by its digits. Bands: pointwise 95 %, "
        f"{cover}. The information in a number is known exactly: all digit counts are equally likely, and so are the "
        "9 * 10^(k-1) numbers of k digits. So no blind decoder is needed: the figure is this information minus the "
        "bits that the variant needs. "
        "(No number stands in two splits, so a decoder that knew all of train by heart would need slightly fewer bits "
        "for numbers of few digits.)",
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
        tokens, bits = zip(*curve, strict=True)
        if share * tokens[-1] < tokens[0]:
            return None
        values.append(float(np.interp(share * tokens[-1], tokens, bits)))
    return sum(values) / len(values)


def _cover(lines: Mapping[str, Sequence[Estimate]]) -> str:
    return cover_of_estimates(estimate for line in lines.values() for estimate in line)


def _mean_learning(curves: Sequence[Sequence[LearningPoint]]) -> Line:
    points = list(zip(*curves, strict=True))
    x = [sum(point.target_tokens for point in each) / len(each) / 1e6 for each in points]
    return Line(x, [sum(point.bits for point in each) / len(each) for each in points])
