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


def report_published(scores: PublishedScores, settings: PublishedSettings) -> list[Block]:
    """Return the report: how the systems were trained, and for each direction a figure and tables."""
    blocks: list[Block] = [Heading(1, "Published systems on Multi30k")]
    if not scores.all_systems:
        return [*blocks, Paragraph(f"No system has been trained yet: run {COMMAND}")]
    blocks += map(Paragraph, (_how_to_read(settings), _provenance_text(scores)))
    names = name_systems(settings)
    for direction, result in scores.directions.items():
        if not result.systems:
            continue
        blocks += [Heading(2, direction), _figure(direction, result, names)]
        blocks += [_scores_table(direction, test, result, settings, names) for test in settings.tests]
        blocks.append(_runs_table(direction, result, settings, names))
        missing = [
            f"{names[system]}, seed {seed}"
            for seed in settings.seeds
            for system in settings.systems
            if system not in result.systems or seed not in result.systems[system].seeds
        ]
        if missing:
            blocks.append(Paragraph(f"Not trained yet: {'; '.join(missing)}."))
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


def _how_to_read(settings: PublishedSettings) -> str:
    return (
        "How to read it. All systems are trained in the same way, not by their papers' own recipes, so that they "
        f"differ in architecture alone: {' '.join(settings.common)}, and otherwise conf/optimizer/adam.yaml. "
        "Checkpoints are selected on dev, by loss. Test sentences are neither filtered nor cut, and no sentence of a "
        "test set is in train. Beam 5; sacreBLEU on raw, cased text."
    )


def _provenance_text(scores: PublishedScores) -> str:
    systems = scores.all_systems
    machines = sorted(
        {
            f"{machine['processor']}, {machine['threads']} thread{'s' * (machine['threads'] > 1)}"
            for system in systems
            for machine in system.machines
        }
    )
    commits = sorted({commit[:12] for system in systems for commit in system.commits})
    differed = " (files differed)" if any(system.dirty for system in systems) else ""
    return (
        f"How it was made: {COMMAND}, with the settings of conf/published.yaml. Minutes are those of training one run, "
        f"on {'; '.join(machines)}. Trained at commit {', '.join(commits)}{differed}."
    )


def _figure(direction: str, result: DirectionScores, names: Mapping[str, str]) -> Picture:
    x = [bucket.mean for bucket in result.buckets]
    few = [bucket.sentences < FEW for bucket in result.buckets]
    lines = {names[name]: estimate_line(x, own.buckets, few) for name, own in result.systems.items()}
    cover = cover_of_estimates(bleu for own in result.systems.values() for bleu in own.buckets)
    counts = ", ".join(f"{show_bounds(bucket.tokens)}: {bucket.sentences:,}" for bucket in result.buckets)
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
        f"BLEU, {direction}, of {', '.join(lines)} by length of the reference",
        f"BLEU, {direction}, by the number of reference tokens: all test sets together, beam 5, means over seeds. "
        f"Small dots: single seeds. Bands: pointwise 95 %, {cover}. Sentences: {counts}. Hollow marks: fewer than "
        f"{FEW} sentences.",
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
    caption = (
        f"{direction}: each run (seeds {', '.join(map(str, settings.seeds))}). Converged: the last fifth of the budget "
        f"lowered the best dev loss by less than {100 * settings.converged:zg} %, for all seeds."
    )
    if any(all_converged(own.converged) is None for own in result.systems.values()):
        caption += f" {NOT_JUDGED}"
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
    caption = (
        f"{direction}, {test}: BLEU of each seed ({', '.join(map(str, settings.seeds))}), and the difference of the "
        f"means over seeds to {baseline}, beam 5. Its 95 % intervals: over test sentences (these trained models); over "
        "sentences and seeds, with the variance of seeds pooled over all systems (pooled); the same from the two "
        "systems' own seeds, which are few (own spread). p: paired bootstrap over sentences; Holm's p is "
        "adjusted for the number of systems. "
        f"{result.signature}"
    )
    return Table(f"published-{direction}-{test}", head, rows, caption)
