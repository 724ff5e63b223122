"""What a run was earlier in its training, as far as its folder and those that it started from still have it.

A run of a ladder of budgets started from another (`start_from`), which has a best checkpoint of its own; with
`trainer.keep`, a run has the checkpoints of its last validations, too.

Shapes: N buckets of source words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hourglass.errors import UserError
from hourglass.metrics.metric import facts_of
from hourglass.metrics.scoring import main_of
from hourglass.runs.curves import read_curves
from hourglass.system.files import read_json
from hourglass.training.finished import FinishedRun

# Digits of a number of target tokens: a run ends with a batch, a little before or behind its budget.
DIGITS = 2


class BucketScore(NamedTuple):
    """The score of the test sentences of some lengths."""

    low: int  # source words
    high: int | None  # None: no end
    score: float | None  # None: no sentences, or one that has no score


@dataclass(frozen=True)
class LengthScores:
    """The scores by source length that a run has recorded.

    Attributes:
        metric: heading of its main metric.
        higher_is_better: whether more of it is better.
        whole: over all sentences.
        buckets: N scores, short sentences first.
    """

    metric: str
    higher_is_better: bool
    whole: float | None
    buckets: list[BucketScore]


@dataclass(frozen=True, eq=False)
class TrainingPoint:
    """A model at a point of its training.

    Attributes:
        run: whose folder has its weights, or its scores and likelihoods.
        weights: the checkpoint; it may be missing on this machine.
        tokens: target tokens read, to `DIGITS` digits.
        is_best: whether it is the best of its run, of which the recorded scores and likelihoods are.
    """

    run: FinishedRun
    weights: Path
    tokens: int
    is_best: bool = True

    @classmethod
    def best(cls, run: FinishedRun) -> "TrainingPoint":
        """Return the best checkpoint of a run, which the page shows."""
        return cls(run, run.folder.best, _tokens_at(run, run.metrics.dev.step))

    @property
    def scores(self) -> LengthScores | None:
        """The scores by source length on test, if the run has recorded them."""
        return recorded_scores(self.run) if self.is_best else None


@dataclass(frozen=True)
class Course:
    """One variant at points of its training, in their order.

    Attributes:
        points: the last of them is the end.
        shown: number of the run on the page that is the last point; None: the page does not show its steps.
    """

    points: list[TrainingPoint]
    shown: int | None

    @property
    def last(self) -> TrainingPoint:
        """The end of the training."""
        return self.points[-1]

    @classmethod
    def of_run(cls, run: FinishedRun, number: int, earlier: int) -> "Course":
        """Return the course of a run of the page, with at most `earlier` points before its end; see `earlier_points`.

        Args:
            run: of the page.
            number: its number there.
            earlier: 0: none.
        """
        return cls([*(earlier_points(run, earlier) if earlier else []), TrainingPoint.best(run)], number)

    @classmethod
    def of_ladder(cls, runs: Sequence[FinishedRun], shown: int | None = None) -> "Course":
        """Return the course of the best checkpoints of a ladder, the smallest budget first; weights may be missing."""
        return cls(sorted(map(TrainingPoint.best, runs), key=lambda point: point.tokens), shown)


def earlier_points(run: FinishedRun, most: int) -> list[TrainingPoint]:
    """Return the points of a run's training before its best checkpoint, of which there are weights: the last ones.

    Args:
        run: at the end of its training.
        most: how many at most.

    Raises:
        UserError: there are none.
    """
    best = TrainingPoint.best(run)
    found = [*_ladder_below(run), *_validations(run)]
    points = {point.tokens: point for point in sorted(found, key=lambda point: point.tokens)}
    earlier = [point for point in points.values() if point.tokens < best.tokens]
    if not earlier:
        raise UserError(
            f"checkpoints: {run.path} has no earlier weights: neither did it start from a run of a smaller budget that "
            "is still there (start_from, docs/runs.md), nor did it keep validations (trainer.keep): set checkpoints=0, "
            "or name a run that has some"
        )
    return earlier[-most:]


def recorded_scores(run: FinishedRun) -> LengthScores | None:
    """Return the scores by source length in a run's folder: those of a kept run of an ablation, or of its training."""
    kept = read_json(run.folder.scores) if run.folder.scores.exists() else None
    scores: Any = kept.get("scores") if isinstance(kept, dict) else run.metrics.test
    if not scores:
        return None
    try:
        name = main_of(scores)
        facts = facts_of(scores)[name]
        rows = [(bucket["source_words"], bucket[name]) for bucket in scores["buckets"]]
        buckets = [BucketScore(low, high, score) for (low, high), score in rows]
        return LengthScores(facts.heading, facts.higher_is_better, scores[name], buckets)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.path}: its scores by length are damaged ({error}): score the run again") from None


def _ladder_below(run: FinishedRun) -> list[TrainingPoint]:
    """Return the best checkpoints of the runs that a run started from, directly or not."""
    points: list[TrainingPoint] = []
    seen = {run.path.resolve()}
    while (place := run.config.get("start_from")) is not None:
        path = Path(place).expanduser()
        if not (path / "config.yaml").exists():  # A ladder that was moved as a whole.
            path = run.path.parent / path.name
        if path.resolve() in seen or not (path / "config.yaml").exists():
            break
        seen.add(path.resolve())
        run = FinishedRun.open(path, "checkpoints")
        if run.folder.best.exists():
            points.append(TrainingPoint.best(run))
    return points


def _validations(run: FinishedRun) -> list[TrainingPoint]:
    """Return the checkpoints of the validations that a run has kept."""
    steps = [(int(file.stem.rpartition("-")[2]), file) for file in run.folder.all_validated]
    return [
        TrainingPoint(run, file, _tokens_at(run, step), is_best=step == run.metrics.dev.step) for step, file in steps
    ]


def _tokens_at(run: FinishedRun, step: int) -> int:
    """Return how many target tokens a run had read after a number of optimizer steps, to `DIGITS` digits.

    The curves have points at some steps, counted from 0; between them the tokens grow evenly.
    """
    points = read_curves(run.folder.curves)
    read = {at + 1: value for at, name, value in points if name == "train/target_tokens"}
    last = max([run.metrics.dev.step, *(at + 1 for at, _, _ in points)])
    known = {0: 0.0, **read, last: float(run.metrics.train_target_tokens)}
    tokens = float(np.interp(step, sorted(known), [known[at] for at in sorted(known)]))
    return int(float(f"{tokens:.{DIGITS}g}"))
