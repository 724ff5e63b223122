"""The report of the published systems: BLEU of each, by seed and by length, and what is not made yet."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter

from hourglass.experiments.published import SEARCHES, PublishedSettings
from hourglass.metrics.scoring import FEW, show_bounds
from hourglass.metrics.significance import Difference, Interval
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.phrases import banded, difference_cells
from hourglass.reports.plots import draw_lines

Scores = Mapping[str, Any]


T = TypeVar("T")


def write_published(summary: Mapping[str, Scores], settings: PublishedSettings) -> list[Block]:
    """Return what `published.summarise` found as a report: what it is, and for each direction table and figure."""
    made = [one for found in summary.values() for one in found["systems"].values()]
    blocks: list[Block] = [Heading(1, "Published systems on Multi30k")]
    if not made:
        return [*blocks, Paragraph("No system is made yet: python pipelines/published.py FOLDER")]
    machines = sorted(
        {
            f"{machine['processor']}, {machine['threads']} thread{'s' * (machine['threads'] > 1)}"
            for one in made
            for machine in one["machines"]
        }
    )
    commits = sorted({commit[:12] for one in made for commit in one["commits"]})
    blocks.append(
        Paragraph(
            "By python pipelines/published.py FOLDER, with the settings of conf/published.yaml. All systems are "
            f"trained alike ({' '.join(settings.common)}, the rest of the recipe as in conf/optimizer/adam.yaml), not "
            "by their papers' own recipes, so that the architectures are what differs. Models are chosen on dev "
            "(loss), test sentences are neither filtered nor cut, no sentence of a test set stands in train. Beam 5; "
            "sacreBLEU on raw, cased text. "
            f"Minutes are those of training a run, on {'; '.join(machines)}. Trained at commit {', '.join(commits)}"
            f"{' (files differed)' if any(one['dirty'] for one in made) else ''}."
        )
    )
    names = name_systems(settings)
    for direction, found in summary.items():
        if not found["systems"]:
            continue
        blocks += [Heading(2, direction), _figure(direction, found, names)]
        blocks += [_scores(direction, test, found, settings, names) for test in settings.tests]
        blocks.append(_runs(direction, found, settings, names))
        owed = [
            f"{names[system]}, seed {seed}"
            for seed in settings.seeds
            for system in settings.systems
            if seed not in found["systems"].get(system, {"seeds": []})["seeds"]
        ]
        if owed:
            blocks.append(Paragraph(f"Owed: {'; '.join(owed)}."))
    return blocks


def name_systems(settings: PublishedSettings) -> dict[str, str]:
    """Return the name of each system in figures: its words without those about sizes, if that tells all apart."""
    names = {
        system: " ".join(word for word in system.split() if not re.match(r"\w+\.(layers|\w*_size)=", word))
        for system in settings.systems
    }
    if len(set(names.values())) < len(names):
        names = {system: system for system in settings.systems}
    return {system: name.removeprefix("experiment=") for system, name in names.items()}


def _figure(direction: str, found: Scores, names: Mapping[str, str]) -> Picture:
    x = [bucket["mean"] for bucket in found["buckets"]]
    few = [bucket["sentences"] < FEW for bucket in found["buckets"]]
    lines = {
        names[system]: banded(
            x,
            [row["mean"] for row in one["buckets"]],
            [_read_as(Interval, row["interval"]) for row in one["buckets"]],
            few,
        )
        for system, one in found["systems"].items()
    }
    counts = ", ".join(f"{show_bounds(bucket['tokens'])}: {bucket['sentences']:,}" for bucket in found["buckets"])
    return Picture(
        f"published-{direction}",
        draw_lines(
            lines,
            x_label="mean tokens of the references of a bucket",
            y_label="BLEU",
            zero=True,
            order=list(names.values()),
        ),
        f"BLEU, {direction}, of {', '.join(lines)} by length of the reference",
        f"BLEU, {direction}, by the reference's tokens, all test sets together, beam 5, means over seeds with 95 % "
        f"intervals of these trained models. Sentences: {counts}. Hollow: fewer than {FEW} sentences.",
    )


def _runs(direction: str, found: Scores, settings: PublishedSettings, names: Mapping[str, str]) -> Table:
    head = ["system", "words beside the recipe", "minutes", "dev loss", "converged"]
    head.append("gain of the last fifth, %")
    rows = [
        [
            names[system],
            system,
            f"{np.mean(one['train_seconds']) / 60:.0f}",
            " ".join(f"{loss:.3f}" for loss in one["dev_loss"]),
            "yes" if all(one["converged"]) else "no",
            " ".join(f"{100 * gain:.1f}" for gain in one["gain_of_last_fifth"]),
        ]
        for system, one in found["systems"].items()
    ]
    caption = (
        f"{direction}: each run (seeds {', '.join(map(str, settings.seeds))}). Converged: the last fifth of the budget "
        f"lowered the best dev loss by less than {100 * settings.converged:g} %, for all seeds."
    )
    return Table(f"published-{direction}-runs", head, rows, caption, text_columns=2)


def _scores(direction: str, test: str, found: Scores, settings: PublishedSettings, names: Mapping[str, str]) -> Table:
    baseline = names[settings.baseline]
    head = ["system", "parameters", "greedy", "beam 5", f"less {baseline}", "these trained models"]
    head += ["this architecture, pooled", "this architecture, own spread", "p"]
    rows = []
    for system, one in found["systems"].items():
        scores = one["scores"][test]
        by_seed = [" ".join(f"{value:.2f}" for value in scores[search]["by_seed"]) for search in SEARCHES]
        rows.append(
            [
                names[system],
                f"{one['parameters']:,}",
                *by_seed,
                *difference_cells(_read_as(Difference, scores.get("difference"))),
            ]
        )
    caption = (
        f"{direction}, {test}: BLEU of each seed ({', '.join(map(str, settings.seeds))}), and the difference to "
        f"{baseline} of the means over seeds, beam 5, with 95 % intervals: over test sentences; over sentences and "
        "seeds, the variance of seeds pooled over all systems; the same from the two systems' own seeds (Welch), which "
        "are few. "
        f"p of the paired bootstrap over sentences. {found['signature']}"
    )
    return Table(f"published-{direction}-{test}", head, rows, caption)


def _read_as(kind: type[T], values: Any) -> T | None:
    return TypeAdapter(kind).validate_python(values) if values else None
