"""What the report says of bits: how much of a reference reached the decoder, by length, by position, in training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hourglass.metrics.scoring import FEW, show_bounds
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.phrases import NOT_CHOOSING, OF_ARCHITECTURE, REREAD, banded, show_range, widest
from hourglass.reports.plots import Line, draw_lines

Information = Mapping[str, Any]


# Attentions by which the decoder has one vector and no more.
VECTOR = {
    "none": "one that is given one fixed vector at its start",
    REREAD: "one that reads a fixed vector at each step",
}


NO_CHOICE = {*VECTOR, *NOT_CHOOSING}


# Shares of the budget at which the table says what was learnt.
SHARES = (0.25, 0.5, 1.0)


def write_bits(name: str, found: Information) -> list[Block]:
    """Return the report of one corpus, of what `measure_bits` returned, as JSON has it."""
    heading, *rest = bits_section(name, found)
    return [heading, Paragraph(aloud(name, found)), *rest, Paragraph(how_made(found))]


def how_made(found: Information) -> str:
    """Return seeds, budgets and commits of the runs; their settings stand in information.json."""
    kinds = {"blind": found["blind"], **found["variants"]}
    each = "; ".join(
        f"{name}: seed {', '.join(map(str, one['seeds']))}, {max(one['target_tokens']):,} target tokens, commit "
        f"{', '.join(dict.fromkeys(one['commits']))}"
        for name, one in kinds.items()
    )
    return f"How it was made. {each}. {found['resamples']:,} resamples of {found['sentences']:,} test sentences."


def bits_section(name: str, found: Information) -> list[Block]:
    """Return the same without the paragraph to be read aloud, which a report with more in it has at its top."""
    variants, order = found["variants"], list(found["variants"])
    means = [bucket["mean_source_words"] for bucket in found["buckets"]]
    known = [i for i, bucket in enumerate(found["buckets"]) if bucket["sentences"]]
    few = [found["buckets"][i]["sentences"] < FEW for i in known]
    by_length = {
        variant: _curve([means[i] for i in known], [own["buckets"][i] for i in known], few)
        for variant, own in variants.items()
    }
    places = [i for i in range(len(found["positions"])) if all(own["positions"][i] for own in variants.values())]
    by_position = {
        variant: _curve(
            [float(i) for i in places],
            [own["positions"][i] for i in places],
            [found["positions"][i]["sentences"] < FEW for i in places],
        )
        for variant, own in variants.items()
    }
    learning = {variant: _mean_learning(own["learning"]) for variant, own in variants.items()}
    differences = {
        variant: _curve([means[i] for i in known], [_of_trained(own["difference"]["buckets"][i]) for i in known], few)
        for variant, own in variants.items()
        if "difference" in own
    }
    length = "mean source words of a bucket"
    blocks: list[Block] = [
        Heading(3, f"{name}: bits through the neck"),
        Paragraph(explanations(found)),
        _table(name, found),
    ]
    if differences:
        blocks.append(
            Picture(
                f"{name}-bits-difference",
                draw_lines(
                    differences,
                    x_label=length,
                    y_label=f"bits less those of {found['baseline']}",
                    order=order,
                    zero=True,
                ),
                f"By how many bits each variant leads {found['baseline']} on {name}, by sentence length",
                f"Bits by which a variant leads {found['baseline']}, by sentence length, with 95 % bands over test "
                "sentences. The blind decoder cancels: nothing is assumed.",
            )
        )
    if found["digits"]:
        blocks.append(_by_digits(name, found))
    positions = _draw_positions(by_position, [found["positions"][i]["pieces"] for i in places], order)
    most = (
        "The dotted line is what there is to tell, known exactly; the curves are too high by what the blind decoder "
        "needs beyond that."
        if found["exact"] is not None
        else "What the blind decoder needs in all is the most that there is to tell."
    )
    blocks += [
        Picture(
            f"{name}-bits-by-length",
            draw_lines(
                by_length,
                x_label=length,
                y_label="bits about the translation\nthat reach the decoder",
                order=order,
                zero=True,
                floor=_ceiling(found, known),
            ),
            f"Bits about the translation that reach the decoder of {', '.join(order)} on {name}, by sentence length",
            "Bits about the translation that reach the decoder, by sentence length, with 95 % bands over test "
            f"sentences. {most}",
        ),
        Picture(
            f"{name}-bits-by-position",
            positions,
            f"Bits a piece that reach the decoder on {name}, by the piece's position in the translation",
            "Bits a piece, by its position in the translation, over all sentences that are so long: what is at the end "
            "of long sentences is other text, too. Compare the lines at one place. End of sentence is left out.",
        ),
        Picture(
            f"{name}-bits-learnt",
            draw_lines(
                learning,
                x_label="target tokens read, millions",
                y_label="bits a dev sentence",
                order=order,
                zero=True,
            ),
            f"Bits that reach the decoder on {name} as training goes on",
            "The same on dev as training goes on, likelihoods as they are. A line that still rises has not learnt what "
            "it could: not learnt yet is not does not fit.",
        ),
    ]
    return blocks


def aloud(name: str, found: Information) -> str:
    """Return one paragraph to be read to people: what the neck carries, how sure that is, what would change it."""
    blind, variants, baseline = found["blind"], found["variants"], found["baseline"]
    a_word = blind["bits"] / max(blind["target_words"], 1)
    choosing = [one for one, own in variants.items() if one != baseline and own["attention"] not in NO_CHOICE]
    # Chosen on dev, as any winner has to be.
    best = min(choosing, key=lambda one: float(np.mean(variants[one]["dev_loss"]))) if choosing else None
    necks = [one for one, own in variants.items() if own["attention"] in VECTOR]
    texts = []
    # What needs nothing to be assumed comes first.
    for leader in [best] if best else [one for one in necks if one != baseline][:1]:
        interval, of = widest(variants[leader]["difference"])
        who = f"a decoder that may look back ({leader})" if best else _described(leader, variants)
        texts.append(
            f"On {name} {who} needs {_fewer(variants[leader]['difference']['value'])} a sentence than "
            f"{_described(baseline, variants)}{_between(interval, of)}. That needs nothing to be believed but the two "
            "likelihoods."
        )
    exact = "" if found["exact"] is None else f" ({found['exact']:.1f} are in it, exactly)"
    texts.append(
        f"To write a sentence of {name} word by word, a decoder that never sees the source has to be told "
        f"{blind['bits']:.1f} bits{exact}, {a_word:.1f} a word."
    )
    for variant in dict.fromkeys([baseline, *necks, *([best] if best else [])]):
        own, described = _reading(variants[variant]), _described(variant, variants)
        sure = _between(own["own_spread"] or own["interval"], _how_sure(own))
        subject = described if described == variant else f"{described[0].upper()}{described[1:]}"
        if _nothing(found, variant):
            texts.append(
                f"Of {described}, nothing that could be told from nothing has come through ({own['mean']:.1f} "
                f"bits{sure}): whether it would not fit or has not been learnt, this does not say."
            )
            continue
        has = "has to be told {:.1f} bits fewer" if found["exact"] is None else "has read {:.1f} of these bits"
        texts.append(
            f"{subject} {has.format(own['mean'])}{sure}: as much as {own['mean'] / a_word:.1f} words of such text."
        )
        if variant != best:
            texts.append(_plateau(variant, variants[variant]["saturation"]))
    still = [variant for variant, own in variants.items() if not all(own["converged"])]
    if still:
        texts.append(f"{', '.join(still)} had not converged: more training may raise what they carry.")
    if not blind["converged"] and found["exact"] is None:
        texts.append(
            f"Nor had the blind decoder: the last fifth of its budget still saved it {blind['last_fifth_bits']:.1f} "
            "bits a sentence. By what it lacks all of these figures, but no difference, are too high, and by what a "
            "variant lacks its own is too low."
        )
    texts.append(
        "These are bits about the translation that were used, not what a vector could hold, and not bits of the "
        "source. "
        + ("A better blind decoder would lower all of them alike; a wider" if found["exact"] is None else "A wider")
        + " vector, more training or another language pair may change them one by one."
    )
    return " ".join(texts)


def explanations(found: Information) -> str:
    """Return what these runs say of the four things that may keep bits from coming through."""
    variants, baseline = found["variants"], found["baseline"]
    own = variants[baseline]
    quarter, half, whole = (_at_share(own["learning"], share) for share in SHARES)
    learnt = all(own["converged"])
    texts = [
        f"Four things keep bits from coming through, and look alike. Not learnt yet: {baseline} read {quarter:.1f} "
        f"bits a dev sentence at a quarter of its budget, {half:.1f} at half and {whole:.1f} at its end (likelihoods "
        "as they are: label smoothing, left in, lowers them), and had "
        f"{'converged' if learnt else 'not converged'}."
    ]
    again = [one for one, other in variants.items() if one != baseline and other["attention"] == REREAD]
    if own["attention"] == "none" and again:
        difference = variants[again[0]]["difference"]
        interval, of = widest(difference)
        if _nothing(found, again[0]):
            verdict = f"it has read nothing itself, so this says nothing of what {baseline} forgets"
        elif interval is None or interval["low"] <= 0 <= interval["high"]:
            verdict = "that the decoder forgets it on its way is not shown"
        elif difference["value"] < 0:
            verdict = "so the decoder's forgetting is not what is missing"
        elif learnt:
            verdict = "so much can be in a vector of that width, and a decoder that saw its own once did not use it"
        else:
            verdict = (
                f"so much can be in a vector of that width; as {baseline} had not converged, lost by the decoder and "
                "not learnt yet cannot be told apart here"
            )
        texts.append(
            f"Lost by the decoder: {again[0]}, which has such a vector before it at every step, needs "
            f"{_fewer(difference['value'])} than {baseline}{_between(interval, of)}: {verdict}."
        )
    else:
        texts.append("Lost by the decoder: it takes fixed held against none to say, and that is not here.")
    texts.append(
        "Too small, or lost by the encoder: neither the width of the neck nor the order of reading is varied alone "
        "here, so these runs cannot say; the sweep over the width (pipelines/capacity) varies both."
    )
    return " ".join(texts)


def _reading(variant: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a variant's bits: exactly, where what there is to tell is known, and else by the blind decoder."""
    reading: Mapping[str, Any] = variant["exact_bits"] or variant["bits"]
    return reading


def _between(interval: Mapping[str, float] | None, of: str) -> str:
    return f", between {interval['low']:.1f} and {interval['high']:.1f} (95 %, {of})" if interval else ""


def _how_sure(reading: Mapping[str, Any]) -> str:
    """Return what an interval of bits is over."""
    if len(reading["by_seed"]) == 1:
        return "over test sentences; another training may differ by more"
    each = ", ".join(f"{one:.1f}" for one in reading["by_seed"])
    of = "over test sentences and trainings" if reading["own_spread"] else "over test sentences"
    return f"{of}; its trainings alone {each}"


def _fewer(bits: float) -> str:
    """Return by how much less a decoder has to be told."""
    return f"{abs(bits):.1f} bits {'fewer' if bits >= 0 else 'more'}"


def _described(variant: str, variants: Mapping[str, Any]) -> str:
    """Return what a variant is, for people."""
    attention = variants[variant]["attention"]
    return f"{VECTOR[attention]} ({variant})" if attention in VECTOR else variant


def _nothing(found: Information, variant: str) -> bool:
    """Say whether a reading may be none: what chance, or a blind decoder that still gets better, may make of none."""
    own, blind = _reading(found["variants"][variant]), found["blind"]
    interval = own["own_spread"] or own["interval"]
    doubt = 0.0 if found["exact"] is not None or blind["converged"] else blind["last_fifth_bits"]
    return bool(own["mean"] <= doubt or (interval and interval["low"] <= doubt))


def _of_trained(difference: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"mean": difference["value"], "interval": difference["trained"]}


def _plateau(variant: str, one: Mapping[str, Any]) -> str:
    if one["plateau"] is None:
        each = f"; its trainings alone {', '.join(f'{slope:+.2f}' for slope in one['slope_by_seed'])}"
        return (
            f"For {variant} no plateau can be shown below {one['longest']:.0f} words; from one source word to the next "
            f"it is {one['slope']:+.2f} bits {show_range(one['slope_interval'])} (over test sentences"
            f"{each if len(one['slope_by_seed']) > 1 else ''})."
        )
    sure = _between(one["plateau_interval"], "over test sentences")
    if one["flat"]:
        return (
            f"What {variant} carries is the same at all lengths seen, from {one['shortest']:.0f} words to "
            f"{one['longest']:.0f}: {one['plateau']:.1f} bits{sure}, to which longer sentences add nothing."
        )
    return f"What {variant} carries flattens at {one['plateau']:.1f} bits{sure} as sentences grow."


def _table(name: str, found: Information) -> Table:
    rows = []
    joined = sorted({count for own in found["variants"].values() for count in own["joined"]}, key=int)
    for variant, own in found["variants"].items():
        difference = own.get("difference")
        architecture = [show_range(difference[one]) for one in OF_ARCHITECTURE] if difference else ["-", "-"]
        flat = own["saturation"]
        rows.append(
            [
                variant,
                "yes" if all(own["converged"]) else "no",
                f"{difference['value']:+.2f}" if difference else "-",
                show_range(difference["trained"]) if difference else "-",
                *architecture,
                f"{own['bits']['mean']:.2f}",
                show_range(own["bits"]["interval"]),
                show_range(own["bits"]["own_spread"]),
                " ".join(f"{one:.2f}" for one in own["temperatures"]),
                f"{own['raw_bits']['mean']:.2f}",
                f"{own['end_bits']['mean']:.2f}",
                f"{flat['slope']:+.2f} {show_range(flat['slope_interval'])}",
                "-" if flat["plateau"] is None else f"{flat['plateau']:.1f} {show_range(flat['plateau_interval'])}",
                *(f"{_at_share(own['learning'], share):.1f}" for share in SHARES),
                *(_joined(own["joined"], count) for count in joined),
                f"{own['parameters']:,}",
            ]
        )
    baseline = found["baseline"]
    head = ["variant", "converged", f"bits less {baseline}", "these trained models", "this architecture, pooled"]
    head += [
        "this architecture, own spread",
        "bits a sentence",
        "these trained models, bits",
        "with the spread of seeds",
        "temperature",
        "without temperature",
        "of them end of sentence",
    ]
    head += ["bits a source word", "plateau", *(f"dev, raw, {100 * share:g} % of the budget" for share in SHARES)]
    head += ["apart, without ends" if count == "1" else f"joined by {count}, less apart" for count in joined]
    head += ["parameters"]
    blind = found["blind"]
    caption = (
        f"Bits about the reference that reach the decoder on {name}, test set, a sentence, means over seeds. The "
        f"difference to {baseline} comes first: the blind model cancels in it. Bits are the blind model's negative "
        f"log-likelihood ({blind['bits']:.2f} bits, of them end of sentence {blind['end_bits']:.2f}; at temperature "
        f"{blind['temperature']:.2f}, and {blind['raw_bits']:.2f} without one) less the "
        "variant's, each by the temperature that suits it on dev where it was trained with label smoothing. It is "
        "usable information about the target, an estimate: a lower bound only where the blind model's excess loss is "
        "no larger than the variant's. A plateau: only where held-out likelihood prefers a curve that flattens, the "
        "curve comes to 90 % of it within the lengths seen, and the longest third of the sentences is flat; or where "
        "all lengths are. On dev: "
        "likelihoods as they are, against the blind model at its best, between validations by interpolation: what is "
        "not learnt yet."
    )
    if joined:
        told = ", ".join(
            f"{bits:.1f} {'apart' if count == '1' else 'joined by ' + count}" for count, bits in blind["joined"].items()
        )
        caption += (
            " Joined: so many consecutive test sentences as one input, and how many more bits of each come through "
            "than when the same sentences are read apart, ends of sentence aside: none may end where the next begins, "
            "joined or apart. The content is the same, and longer; "
            "but no such input was seen in training, by the blind decoder neither, and what that loses by it counts as "
            f"bits: it has to be told {told}."
        )
    return Table(f"{name}-bits", head, rows, caption, text_columns=2)


def _joined(joined: Mapping[str, Any], count: str) -> str:
    if count not in joined:
        return "-"
    if count == "1":
        return f"{joined[count]['mean']:.1f} {show_range(joined[count]['interval'])}"
    gain = joined[count]["gain"]
    return f"{gain['mean']:+.1f} {show_range(gain['interval'])}"


def _by_digits(name: str, found: Information) -> Picture:
    rows, order = found["digits"], list(found["variants"])
    x = [float(row["digits"]) for row in rows]
    few = [row["sentences"] < FEW for row in rows]
    lines = {variant: _curve(x, [row["variants"][variant] for row in rows], few) for variant in order}
    return Picture(
        f"{name}-bits-by-digits",
        draw_lines(
            lines,
            x_label="digits of the number",
            y_label="bits about the number\nthat reach the decoder",
            order=order,
            zero=True,
            floor=("all that there is", Line(x, [row["exact"] for row in rows])),
        ),
        f"Bits about a number that reach the decoder of {', '.join(order)}, by how many digits it has",
        "Bits about a number that reach the decoder, by its number of digits, with 95 % bands over test sentences. "
        "What there is to tell is known exactly here: which of the digit counts, and which of the 9 * 10^(k-1) numbers "
        "of k digits. So no blind decoder is needed: what there is, less what a variant still has to be told. (No "
        "number stands in two splits, so that one who knew all of train by heart would have a little less to be told, "
        "at the fewest digits.)",
    )


def _ceiling(found: Information, known: Sequence[int]) -> tuple[str, Line]:
    buckets = [found["buckets"][i] for i in known]
    x = [bucket["mean_source_words"] for bucket in buckets]
    if found["exact"] is not None:
        return "all that there is", Line(x, [bucket["exact"] for bucket in buckets])
    return "what the blind decoder needs", Line(x, [bucket["blind"] for bucket in buckets])


def _at_share(curves: Sequence[Sequence[Sequence[float]]], share: float) -> float:
    """Return the mean over seeds of a curve at a share of its end, between its points by interpolation from nothing."""
    found = []
    for curve in curves:
        tokens, bits = zip(*[(0.0, 0.0), *curve], strict=True)
        found.append(float(np.interp(share * tokens[-1], tokens, bits)))
    return sum(found) / len(found)


def _curve(x: Sequence[float], rows: Sequence[Mapping[str, Any]], few: Sequence[bool]) -> Line:
    return banded(x, [row["mean"] for row in rows], [row["interval"] for row in rows], few)


def _mean_learning(curves: Sequence[Sequence[Sequence[float]]]) -> Line:
    points = list(zip(*curves, strict=True))
    x = [sum(at for at, _ in each) / len(each) / 1e6 for each in points]
    return Line(x, [sum(bits for _, bits in each) / len(each) for each in points])


def _draw_positions(lines: Mapping[str, Line], bounds: Sequence[Sequence[int | None]], order: Sequence[str]) -> Any:
    figure = draw_lines(
        lines, x_label="position in the translation, pieces", y_label="bits a piece", order=order, zero=True
    )
    figure.axes[0].set_xticks(next(iter(lines.values())).x, [show_bounds(one) for one in bounds])
    return figure
