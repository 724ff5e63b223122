"""The report of probes and frozen encoders: what is in the vector, what its decoder left unused, and what is not in."""

from collections.abc import Sequence

from hourglass.analysis.frozen import EncoderFindings, FrozenReading
from hourglass.analysis.probes import ProbeResult
from hourglass.analysis.state_probes import StateProbes
from hourglass.metrics.significance import Difference, Estimate
from hourglass.reports.bits import FROZEN_ASSUMPTION, NOT_READ, reads_less
from hourglass.reports.document import Block, Heading, Paragraph, Table
from hourglass.reports.phrases import show_range, widest
from hourglass.reports.sentences import say


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
            cells.append(f"{100 * right / asked:z.0f} ({100 * chance / asked:z.0f})" if asked else "-")
        told = probes.told_bits[group].sum() / max(1.0, probes.bits[group].sum())
        rows.append([probes.name_steps(group), f"{probes.asked[group].sum():z,.0f}", *cells, f"{100 * told:z.1f} %"])
    head = ["step", "pieces asked", *(f"piece {position}" for position in shown), "told"]
    caption = say("probes", "state_table", run=run, sentences=int(probes.sentences))
    return [Heading(2, say("probes", "state_heading")), Table("state-probes", head, rows, caption)]


def report_findings(findings: EncoderFindings) -> list[Block]:
    """Return the report."""
    blocks: list[Block] = [Heading(2, say("probes", "heading"))]
    if findings.frozen:
        blocks += [Paragraph(describe_frozen(reading)) for reading in findings.frozen]
        blocks += [_frozen_table(findings.frozen), Paragraph(FROZEN_ASSUMPTION)]
    return [*blocks, *(_probe_table(number, result) for number, result in enumerate(findings.probes, 1))]


def describe_frozen(reading: FrozenReading) -> str:
    """Return what a fresh decoder found in a vector, in words."""
    lost = None if reading.joint_bits is None else reading.lacking
    return say(
        "probes",
        "frozen",
        reading=reading,
        unused_covers=widest(reading.unused)[1],
        reads_less=reads_less(reading.unused),
        not_read=NOT_READ,
        lost=lost,
        lost_covers="" if lost is None else widest(lost)[1],
    )


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
    return Table("frozen", head, rows, say("probes", "frozen_table"))


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
    return Table(f"probes-{number}", head, rows, say("probes", "table", run=result.run, width=result.width))
