"""The report of the published systems: BLEU of each, by seed and by length, and the runs that are missing."""

import re
from collections.abc import Mapping

import numpy as np

from hourglass.analysis.convergence import NOT_JUDGED, all_converged, show_verdict
from hourglass.experiments.published import COMMAND, PublishedSettings
from hourglass.experiments.published_scores import DirectionScores, PublishedScores
from hourglass.metrics.scoring import FEW, show_bounds
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.phrases import (
    DIFFERENCE_HEADINGS,
    P_HEADINGS,
    cover_of_estimates,
    difference_cells,
    estimate_line,
    p_cells,
)
from hourglass.reports.plots import draw_lines
from hourglass.reports.sentences import say


def report_published(scores: PublishedScores, settings: PublishedSettings) -> list[Block]:
    """Return the report: how the systems were trained, and for each direction a figure and tables."""
    blocks: list[Block] = [Heading(1, say("published", "heading"))]
    if not scores.all_systems:
        return [*blocks, Paragraph(say("published", "nothing", command=COMMAND))]
    blocks += map(Paragraph, (say("published", "how_to_read", common=settings.common), _provenance_text(scores)))
    names = name_systems(settings)
    for direction, result in scores.directions.items():
        if not result.systems:
            continue
        blocks += [Heading(2, direction), _figure(direction, result, names)]
        blocks += [_scores_table(direction, test, result, settings, names) for test in settings.tests]
        blocks.append(_runs_table(direction, result, settings, names))
        missing = [
            (names[system], seed)
            for seed in settings.seeds
            for system in settings.systems
            if system not in result.systems or seed not in result.systems[system].seeds
        ]
        if missing:
            blocks.append(Paragraph(say("published", "missing", runs=missing)))
    return blocks


def name_systems(settings: PublishedSettings) -> dict[str, str]:
    """Return the name of each system in figures: its words without those about sizes, if the names stay distinct."""
    names = {
        system: " ".join(word for word in system.split() if not re.match(r"\w+\.(layers|\w*_size)=", word))
        for system in settings.systems
    }
    if len(set(names.values())) < len(names):
        names = {system: system for system in settings.systems}
    return {system: name.removeprefix("experiment=") for system, name in names.items()}


def _provenance_text(scores: PublishedScores) -> str:
    systems = scores.all_systems
    machines = {(machine["processor"], machine["threads"]) for system in systems for machine in system.machines}
    return say(
        "published",
        "provenance",
        command=COMMAND,
        machines=sorted(machines),
        commits=sorted({commit[:12] for system in systems for commit in system.commits}),
        dirty=any(system.dirty for system in systems),
    )


def _figure(direction: str, result: DirectionScores, names: Mapping[str, str]) -> Picture:
    x = [bucket.mean for bucket in result.buckets]
    few = [bucket.sentences < FEW for bucket in result.buckets]
    lines = {names[name]: estimate_line(x, own.buckets, few) for name, own in result.systems.items()}
    cover = cover_of_estimates(bleu for own in result.systems.values() for bleu in own.buckets)
    counts = [(show_bounds(bucket.tokens), bucket.sentences) for bucket in result.buckets]
    return Picture(
        f"published-{direction}",
        draw_lines(
            lines,
            x_label="mean tokens of the references of a bucket",
            y_label="BLEU",
            zero=True,
            order=list(names.values()),
            bands=cover,
        ),
        say("published", "figure_alt", direction=direction, names=list(lines)),
        say("published", "figure", direction=direction, cover=cover, buckets=counts, few=FEW),
    )


def _runs_table(
    direction: str, result: DirectionScores, settings: PublishedSettings, names: Mapping[str, str]
) -> Table:
    head = ["system", "command line", "minutes", "dev loss", "converged", "gain of the last fifth, %"]
    rows = [
        [
            names[system],
            system,
            f"{np.mean(own.train_seconds) / 60:z.0f}",
            " ".join(f"{loss:z.3f}" for loss in own.dev_loss),
            show_verdict(all_converged(own.converged)),
            " ".join(f"{100 * gain:z.1f}" for gain in own.gain_of_last_fifth),
        ]
        for system, own in result.systems.items()
    ]
    unjudged = any(all_converged(own.converged) is None for own in result.systems.values())
    caption = say(
        "published",
        "runs",
        direction=direction,
        seeds=settings.seeds,
        converged=settings.converged,
        not_judged=NOT_JUDGED if unjudged else "",
    )
    return Table(f"published-{direction}-runs", head, rows, caption, text_columns=2)


def _scores_table(
    direction: str, test: str, result: DirectionScores, settings: PublishedSettings, names: Mapping[str, str]
) -> Table:
    baseline = names[settings.baseline]
    head = ["system", "parameters", "greedy", "beam 5", f"minus {baseline}", *DIFFERENCE_HEADINGS, *P_HEADINGS]
    rows = []
    for system, own in result.systems.items():
        scores = own.scores[test]
        by_seed = [" ".join(f"{bleu:z.2f}" for bleu in search.by_seed) for search in (scores.greedy, scores.beam)]
        difference = [*difference_cells(scores.difference), *p_cells(scores.difference)]
        rows.append([names[system], f"{own.parameters:,}", *by_seed, *difference])
    caption = say(
        "published",
        "scores",
        direction=direction,
        test=test,
        seeds=settings.seeds,
        baseline=baseline,
        signature=result.signature,
    )
    return Table(f"published-{direction}-{test}", head, rows, caption)
