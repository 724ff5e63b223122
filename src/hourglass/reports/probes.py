"""The report of probes and frozen encoders: what is in the vector, what its decoder left unused, and what is not in."""

from collections.abc import Sequence

from hourglass.analysis.frozen import EncoderFindings, FrozenReading
from hourglass.analysis.probes import ProbeResult
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
        f"{reading.run}: its own decoder needs {reading.own_bits.mean:z.2f} bits per sentence, and a fresh decoder that "
        f"reads the same vector at every step needs {reading.fresh_bits.mean:z.2f}: "
        f"{_bits(reading.unused)} were in the vector and unused."
    )
    if reads_less(reading.unused):
        return f"{text} {NOT_READ}"
    if reading.lacking is None or reading.joint_bits is None:
        return text
    return (
        f"{text} {reading.joint}, trained together with its encoder, needs {reading.joint_bits.mean:z.2f}: "
        f"{_bits(reading.lacking)} were lost by the encoder."
    )


def _bits(difference: Difference) -> str:
    interval, covers = widest(difference)
    return f"{difference.value:z.2f} bits{in_brackets(interval, covers)}"


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
    return "-" if estimate is None else f"{estimate.mean:z.2f} {show_range(estimate.interval)}"


def _difference(difference: Difference | None) -> str:
    return "-" if difference is None else f"{difference.value:+z.2f} {show_range(difference.trained)}"


def _probe_table(number: int, result: ProbeResult) -> Table:
    rows = [
        [
            code.question,
            f"{code.sentences:,}",
            f"{code.classes:,}",
            *(f"{value:z.2f}" for value in (code.uniform, code.trained, code.random, code.shuffled)),
            f"{code.compression:z.2f}",
            f"{code.saved:+z.2f}",
            f"{code.learnt:+z.2f}",
        ]
        for code in result.codes
    ]
    head = ["question", "sentences", "classes", "uniform", "trained", "random weights", "other order"]
    head += ["compression", "saved", "learnt"]
    return Table(f"probes-{number}", head, rows, f"{result.run}, a vector of {result.width}. {PROBES_DEFINED}")
