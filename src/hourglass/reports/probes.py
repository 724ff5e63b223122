"""The report of probes and frozen encoders: what is in the vector, what its decoder left unused, and what is not in."""

from collections.abc import Sequence

from hourglass.analysis.frozen import EncoderFindings, FrozenReading
from hourglass.analysis.probes import ProbeResult
from hourglass.analysis.state_probes import StateProbes
from hourglass.metrics.significance import Difference, Estimate
from hourglass.reports.bits import FROZEN_ASSUMPTION, NOT_READ, reads_less
from hourglass.reports.document import Block, Heading, Paragraph, Table
from hourglass.reports.phrases import in_brackets, show_range, widest

PROBES_DEFINED = (
    "Bits of a sentence in the online code of Voita and Titov 2020, averaged. Uniform: the code that knows the classes "
    "alone. The other codes have probes that learn from the vectors as they go: of the trained encoder, of the same "
    "encoder with random weights, and of the trained one with the answers in another order. Compression: the uniform "
    "code over that of the trained encoder. Saved: bits that the vectors save over answers in another order; but for "
    "chance, no more than the vector tells. Learnt: bits saved beside random weights. Sentences of train."
)


STATE_DEFINED = (
    "Each cell: how many of 100 pieces at that position of the source a linear probe names from the decoder's state "
    "after the step, and in brackets how many the most frequent piece of that position names. Told: the share of their "
    "bits that the probe tells, over all positions; 0 is chance. Sentences of dev, translated greedily, which the "
    "probes have not learnt from. A probe bounds from below what a linear reader finds in the state."
)


def report_state_probes(run: str, probes: StateProbes, positions: Sequence[int]) -> list[Block]:
    """Return how good the probes of a decoder's state are.

    Args:
        run: path of its folder.
        probes: of the run.
        positions: in the source, from 1, that have a column.
    """
    shown = [position for position in positions if position <= probes.positions]
    rows = []
    for group in range(len(probes.first_steps)):
        cells = []
        for position in shown:
            asked, right, chance = (
                part[group, position - 1] for part in (probes.asked, probes.right, probes.right_by_chance)
            )
            cells.append(f"{100 * right / asked:.0f} ({100 * chance / asked:.0f})" if asked else "-")
        told = probes.told_bits[group].sum() / max(1.0, probes.bits[group].sum())
        rows.append([probes.name_steps(group), f"{probes.asked[group].sum():,.0f}", *cells, f"{100 * told:.1f} %"])
    head = ["step", "pieces asked", *(f"piece {position}" for position in shown), "told"]
    heading = Heading(2, "What the decoder's state still tells of the source")
    caption = f"{run}, {int(probes.sentences):,} sentences of train. {STATE_DEFINED}"
    return [heading, Table("state-probes", head, rows, caption)]


def report_findings(findings: EncoderFindings) -> list[Block]:
    """Return the report."""
    blocks: list[Block] = [Heading(2, "What the encoder has put into its vector")]
    if findings.frozen:
        blocks += [Paragraph(describe_frozen(reading)) for reading in findings.frozen]
        blocks += [_frozen_table(findings.frozen), Paragraph(FROZEN_ASSUMPTION)]
    return [*blocks, *(_probe_table(number, result) for number, result in enumerate(findings.probes, 1))]


def describe_frozen(reading: FrozenReading) -> str:
    """Return what a fresh decoder found in a vector, in words."""
    text = (
        f"{reading.run}: its own decoder needs {reading.own_bits.mean:.2f} bits per sentence, and a fresh decoder that "
        f"reads the same vector at every step needs {reading.fresh_bits.mean:.2f}: "
        f"{_bits(reading.unused)} were in the vector and unused."
    )
    if reads_less(reading.unused):
        return f"{text} {NOT_READ}"
    if reading.lacking is None or reading.joint_bits is None:
        return text
    return (
        f"{text} {reading.joint}, trained together with its encoder, needs {reading.joint_bits.mean:.2f}: "
        f"{_bits(reading.lacking)} were lost by the encoder."
    )


def _bits(difference: Difference) -> str:
    interval, covers = widest(difference)
    return f"{difference.value:.2f} bits{in_brackets(interval, covers)}"


def _frozen_table(readings: Sequence[FrozenReading]) -> Table:
    rows = [
        [
            reading.run,
            *map(_estimate, (reading.own_bits, reading.fresh_bits, reading.joint_bits)),
            *map(_difference, (reading.unused, reading.lacking)),
        ]
        for reading in readings
    ]
    head = ["run", "own decoder needs", "fresh decoder needs", "jointly trained needs", "in the vector, unused"]
    head += ["lost by the encoder"]
    caption = (
        "Bits per test sentence. In the vector, unused: own decoder less fresh one. Lost by the encoder: fresh decoder "
        "less the jointly trained one. Intervals: 95 %, paired bootstrap over sentences."
    )
    return Table("frozen", head, rows, caption)


def _estimate(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.mean:.2f} {show_range(estimate.interval)}"


def _difference(difference: Difference | None) -> str:
    return "-" if difference is None else f"{difference.value:+.2f} {show_range(difference.trained)}"


def _probe_table(number: int, result: ProbeResult) -> Table:
    rows = [
        [
            code.question,
            f"{code.sentences:,}",
            f"{code.classes:,}",
            *(f"{value:.2f}" for value in (code.uniform, code.trained, code.random, code.shuffled)),
            f"{code.compression:.2f}",
            f"{code.saved:+.2f}",
            f"{code.learnt:+.2f}",
        ]
        for code in result.codes
    ]
    head = ["question", "sentences", "classes", "uniform", "trained", "random weights", "other order"]
    head += ["compression", "saved", "learnt"]
    return Table(f"probes-{number}", head, rows, f"{result.run}, a vector of {result.width}. {PROBES_DEFINED}")
