"""What the report says of bits: how much of a reference reached the decoder, by length, by position, in training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hourglass.plots import Line, draw_lines
from hourglass.report import (
    NOT_CHOOSING,
    OF_ARCHITECTURE,
    REREAD,
    Block,
    Heading,
    Paragraph,
    Picture,
    Table,
    banded,
    show_range,
    widest,
)
from hourglass.scoring import FEW, show_bounds

Information = Mapping[str, Any]
# Shares of the budget at which the table says what was learnt.
SHARES = (0.25, 0.5, 1.0)


def write_bits(name: str, found: Information) -> list[Block]:
    """Return the section of one corpus, of what `measure_bits` returned, as JSON has it."""
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
        variant: _curve([float(i) for i in places], [own["positions"][i] for i in places], [False] * len(places))
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
        Paragraph(aloud(name, found)),
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
    positions = _draw_positions(by_position, [found["positions"][i] for i in places], order)
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
            "sentences. What the blind decoder needs in all is the most that there is to tell.",
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
    choosing = [one for one in variants if one != baseline and one not in NOT_CHOOSING]
    texts = []
    if choosing:  # What needs nothing to be assumed comes first.
        best = max(choosing, key=lambda one: float(variants[one]["bits"]["mean"]))
        difference = variants[best]["difference"]
        interval, of = widest(difference)
        texts.append(
            f"On {name} a decoder that may look back ({best}) needs {difference['value']:.1f} bits a sentence fewer "
            f"than {_described(baseline)}, 95 % interval {show_range(interval)} ({of}): that needs nothing to be "
            "believed but the two likelihoods."
        )
    exact = "" if found["exact"] is None else f" ({found['exact']:.1f} are in them, exactly)"
    texts.append(
        f"To write a sentence of {name} word by word, a decoder that never sees the source has to be told "
        f"{blind['bits']:.1f} bits{exact}, {a_word:.1f} a word."
    )
    for variant in dict.fromkeys([baseline, *(one for one in (REREAD,) if one in variants)]):
        own = variants[variant]["bits"]
        if _nothing(variants[variant]):
            texts.append(
                f"Of {_described(variant)}, nothing measurable has come through ({own['mean']:.1f} bits "
                f"{show_range(own['interval'])}): whether it would not fit or has not been learnt, this does not say."
            )
            continue
        texts.append(
            f"{_described(variant).capitalize()} has to be told {own['mean']:.1f} bits fewer, 95 % interval over test "
            f"sentences {show_range(own['interval'])}: as much as {own['mean'] / a_word:.1f} words of such text. "
            f"{_plateau(variant, variants[variant]['saturation'])}"
        )
    if choosing:
        own = variants[best]["bits"]
        texts.append(f"{best}: {own['mean']:.1f} bits {show_range(own['interval'])}.")
        if found["exact"]:
            texts.append(
                f"That is {100 * _exact_share(found, best):.1f} % of what there is, and the blind decoder's "
                f"{100 * blind['bits'] / found['exact']:.1f} %."
            )
    still = [variant for variant, own in variants.items() if not all(own["converged"])]
    if still:
        texts.append(f"{', '.join(still)} had not converged: more training may raise what they carry.")
    if not blind["converged"]:
        texts.append("Nor had the blind decoder, so that all of these figures, but no difference, are a little high.")
    texts.append(
        "These are bits about the translation that were used, not what a vector could hold, and not bits of the "
        "source. A better blind decoder would lower all of them alike; a wider vector, more training or another "
        "language pair may change them one by one."
    )
    return " ".join(texts)


def _described(variant: str) -> str:
    """Return what a variant is, for people."""
    given = {
        "none": "one that is given one fixed vector at its start",
        REREAD: "one that reads such a vector at each step",
    }
    return f"{given[variant]} ({variant})" if variant in given else variant


def _nothing(variant: Mapping[str, Any]) -> bool:
    interval = variant["bits"]["interval"]
    return bool(variant["bits"]["mean"] <= 0 or (interval and interval["low"] <= 0))


def _exact_share(found: Information, variant: str) -> float:
    """Return the bits that a variant reads of those that there are, without a blind model: exact less still told."""
    rows = found["digits"]
    read = sum(row["sentences"] * row["variants"][variant]["mean"] for row in rows)
    return float(read / sum(row["sentences"] * row["exact"] for row in rows))


def _of_trained(difference: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"mean": difference["value"], "interval": difference["trained"]}


def _plateau(variant: str, one: Mapping[str, Any]) -> str:
    if one["plateau"] is None:
        return (
            f"For {variant} there is no plateau below {one['longest']:.0f} words; each source word adds "
            f"{one['slope']:.2f} bits {show_range(one['slope_interval'])}."
        )
    return (
        f"What {variant} carries flattens at {one['plateau']:.1f} bits {show_range(one['plateau_interval'])} as "
        "sentences grow."
    )


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
                f"{own['raw_bits']['mean']:.2f}",
                f"{own['end_bits']['mean']:.2f}",
                f"{flat['slope']:+.2f} {show_range(flat['slope_interval'])}",
                "-" if flat["plateau"] is None else f"{flat['plateau']:.1f} {show_range(flat['plateau_interval'])}",
                *(f"{_at_share(own['learning'], share):.1f}" for share in SHARES),
                *(
                    f"{own['joined'][count]['mean']:.1f} {show_range(own['joined'][count]['interval'])}"
                    if count in own["joined"]
                    else "-"
                    for count in joined
                ),
                f"{own['parameters']:,}",
            ]
        )
    baseline = found["baseline"]
    head = ["variant", "converged", f"bits less {baseline}", "these trained models", "this architecture, pooled"]
    head += [
        "this architecture, own spread",
        "bits a sentence",
        "95 %",
        "without temperature",
        "of them end of sentence",
    ]
    head += ["bits a source word", "plateau", *(f"dev, {100 * share:g} % of the budget" for share in SHARES)]
    head += [f"joined by {count}" for count in joined]
    head += ["parameters"]
    blind = found["blind"]
    caption = (
        f"Bits about the reference that reach the decoder on {name}, test set, a sentence, means over seeds. The "
        f"difference to {baseline} comes first: the blind model cancels in it. Bits are the blind model's negative "
        f"log-likelihood ({blind['bits']:.2f} bits, of them end of sentence {blind['end_bits']:.2f}) less the "
        "variant's, each by the temperature that suits it on dev where it was trained with label smoothing. It is "
        "usable information about the target, an estimate: a lower bound only where the blind model's excess loss is "
        "no larger than the variant's. A plateau: only where held-out likelihood prefers a curve that flattens, the "
        "curve comes to 90 % of it within the lengths seen, and the longest third of the sentences is flat. On dev: "
        "likelihoods as they are, against the blind model at its best, between validations by interpolation: what is "
        "not learnt yet."
    )
    if joined:
        caption += (
            " Joined: so many consecutive test sentences as one input, bits of each of them. The content is the same, "
            "and longer; but such input was not seen in training, and the blind decoder gains from its context."
        )
    return Table(f"{name}-bits", head, rows, caption, text_columns=2)


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
