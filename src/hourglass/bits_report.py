"""What the report says of bits: how much of a reference reached the decoder, by length, by position, in training."""

from collections.abc import Mapping, Sequence
from typing import Any

from hourglass.plots import Line, draw_lines
from hourglass.report import (
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
from hourglass.scoring import FEW

Information = Mapping[str, Any]


def write_bits(name: str, found: Information) -> list[Block]:
    """Return the section of one corpus, of what `measure_bits` returned, as JSON has it."""
    variants, order = found["variants"], list(found["variants"])
    blocks: list[Block] = [
        Heading(3, f"{name}: bits through the neck"),
        Paragraph(aloud(name, found)),
        _table(name, found),
    ]
    if found["digits"]:
        blocks.append(_by_digits(name, found))
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
    positions = _draw_positions(by_position, [found["positions"][i] for i in places], order)
    blocks += [
        Picture(
            f"{name}-bits-by-length",
            draw_lines(
                by_length,
                x_label="mean source words of a bucket",
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
            "Bits a piece, by its position in the translation: where a decoder has forgotten what it was told, the "
            "line falls. End of sentence is left out.",
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
    others = [one for one in variants if one not in (baseline, REREAD)]
    best = max(others, key=lambda one: float(variants[one]["bits"]["mean"])) if others else baseline

    def carried(variant: str) -> str:
        own = variants[variant]["bits"]
        return f"{own['mean']:.1f} bits {show_range(own['interval'])}"

    exact = "" if found["exact"] is None else f" ({found['exact']:.1f} are in them, exactly)"
    text = (
        f"To write a sentence of {name} word by word, a decoder that never sees the source has to be told "
        f"{blind['bits']:.1f} bits{exact}, {a_word:.1f} a word. Given one fixed vector at its start ({baseline}), it "
        f"has to be told {carried(baseline)} fewer: that much about the translation has come through the neck, as much "
        f"as {max(0.0, variants[baseline]['bits']['mean']) / a_word:.1f} words of such text."
    )
    if REREAD in variants:
        text += (
            f" Given the same vector again at every step ({REREAD}): {carried(REREAD)}, or "
            f"{max(0.0, variants[REREAD]['bits']['mean']) / a_word:.1f} words."
        )
    if best != baseline:
        difference = variants[best]["difference"]
        interval, of = widest(difference)
        text += (
            f" Free to look back ({best}): {carried(best)}. The difference, {difference['value']:.1f} bits, 95 % "
            f"interval {show_range(interval)} ({of}), needs no blind decoder to be believed."
        )
    for variant in (baseline, REREAD):
        if variant in variants:
            text += f" {_plateau(variant, variants[variant]['saturation'])}"
    still = [variant for variant, own in variants.items() if not all(own["converged"])]
    if still:
        text += f" {', '.join(still)} had not converged: more training would raise what they carry."
    return (
        f"{text} These are bits about the translation that were used, not what a vector could hold, and not bits of "
        "the source. A better blind decoder would lower all of them alike; a wider vector, more training or another "
        "language pair would change them one by one."
    )


def _plateau(variant: str, one: Mapping[str, Any]) -> str:
    if one["plateau"] is None:
        return (
            f"Of {variant} there is no plateau below {one['longest']:.0f} words (held-out log-likelihood of a curve "
            f"that flattens less that of a straight one: {one['gain']:+.0f}, standard error {one['gain_error']:.0f}); "
            f"each source word adds {one['slope']:.2f} bits {show_range(one['slope_interval'])}."
        )
    return (
        f"What {variant} carries flattens at {one['plateau']:.1f} bits {show_range(one['plateau_interval'])} as "
        "sentences grow."
    )


def _table(name: str, found: Information) -> Table:
    rows = []
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
                *(f"{sum(values) / len(values):.1f}" for values in own["joined"].values()),
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
    head += ["bits a source word", "plateau"]
    joined = next(iter(found["variants"].values()))["joined"]
    head += [f"joined by {count}" for count in joined]
    head += ["parameters"]
    blind = found["blind"]
    caption = (
        f"Bits about the reference that reach the decoder on {name}, test set, a sentence, means over seeds. The "
        f"difference to {baseline} comes first: the blind model cancels in it. Bits are the blind model's negative "
        f"log-likelihood ({blind['bits']:.2f} bits, of them end of sentence {blind['end_bits']:.2f}) less the "
        "variant's, each by the temperature that suits it on dev where it was trained with label smoothing. It is "
        "usable information about the target, an estimate: a lower bound only where the blind model's excess loss is "
        "no larger than the variant's."
    )
    if joined:
        caption += (
            " Joined: so many consecutive test sentences as one input, bits of each of them; what falls from left to "
            "right is lost to length alone, the content being the same."
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
        "of k digits.",
    )


def _ceiling(found: Information, known: Sequence[int]) -> tuple[str, Line]:
    buckets = [found["buckets"][i] for i in known]
    x = [bucket["mean_source_words"] for bucket in buckets]
    if found["exact"] is not None:
        return "all that there is", Line(x, [bucket["exact"] for bucket in buckets])
    return "what the blind decoder needs", Line(x, [bucket["blind"] for bucket in buckets])


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
    labels = [f"{low}+" if high is None else f"{low}" if low == high else f"{low}-{high}" for low, high in bounds]
    figure.axes[0].set_xticks(next(iter(lines.values())).x, labels)
    return figure
