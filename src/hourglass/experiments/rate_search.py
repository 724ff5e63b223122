"""The search for a learning rate on dev: a grid, extended until its best rate is no end of it.

A rate at the end of a grid may be far from the best, and farther for one variant than for another: the comparison of
two variants would be one of grids. So every variant of an ablation, and its blind decoder, gets this search.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from hourglass.analysis.evaluation import SCHEMA_VERSION, Candidate, Tuning, grid_end, rate_word
from hourglass.errors import DivergedError, UserError
from hourglass.system.commands import path_override
from hourglass.system.records import write_record
from hourglass.training.finished import FinishedRun
from hourglass.training.jobs import run_training

# The next rate beyond an end is this many times as high or as low, and so many are tried at most.
FACTOR, EXTENSIONS = 2.0, 4


def run_search(
    rates: Sequence[float],
    common: Sequence[str],
    folder_of: Callable[[int], Path],
    file: Path,
    *,
    output: IO[str] | None = None,
) -> Tuning:
    """Train the candidates of a search, and write and return the outcome.

    Args:
        rates: the grid.
        common: overrides that all candidates share.
        folder_of: returns the run folder of a candidate by its number, from 0; a finished or killed run is continued.
        file: the record of the outcome.
        output: the file for what the trainings print; None: the output of this process.

    Raises:
        UserError: a training failed, or all diverged.
    """
    candidates = train_rates(rates, common, folder_of, output)
    tuning = Tuning(best_candidate(candidates).overrides, candidates)
    write_record(file, tuning, SCHEMA_VERSION)
    return tuning


def train_rates(
    rates: Sequence[float], common: Sequence[str], folder_of: Callable[[int], Path], output: IO[str] | None = None
) -> list[Candidate]:
    """Train and return the candidates of a search for a learning rate: see `run_search`."""
    candidates: list[Candidate] = []

    def train(rate: float) -> float:
        candidates.append(train_candidate(common, [rate_word(rate)], folder_of(len(candidates)), output))
        return _loss(candidates[-1])

    search_rates(rates, train)
    return candidates


def best_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the lowest dev loss."""
    return min(candidates, key=_loss)


def find_rate(
    rates: Sequence[float], search_tokens: int, words: Sequence[str], folder: Path, name: str, *, output: IO[str]
) -> list[str]:
    """Return the override of the learning rate for a point of a sweep, by a search of its own.

    A rate that suits a wide neck and not a narrow one, or one cell and not another, would draw a curve of rates.

    Args:
        rates: the grid; one alone is taken as it is.
        search_tokens: budget of each candidate.
        words: overrides of the point.
        folder: of the sweep; candidates and outcome are in its folder `search`.
        name: of the point.
        output: the file for what the trainings print.

    Raises:
        UserError: a training failed, or all diverged.
    """
    if len(rates) == 1:
        return [rate_word(rates[0])]
    common = [*words, f"trainer.target_tokens={search_tokens}", "trainer.test=false"]
    file = search_file(folder, name)
    return run_search(rates, common, lambda number: file.with_name(f"{name}-{number}"), file, output=output).chosen


def search_file(folder: Path, name: str) -> Path:
    """Return the record of the outcome of `find_rate`."""
    return folder / "search" / f"{name}.json"


def train_candidate(
    common: Sequence[str], overrides: list[str], folder: Path, output: IO[str] | None = None
) -> Candidate:
    """Train one candidate of a search; one that diverges has no dev loss.

    Args:
        common: overrides that all candidates share.
        overrides: its own.
        folder: of its run.
        output: see `run_search`.

    Raises:
        UserError: the training failed.
    """
    try:
        run_training([*common, *overrides, path_override("run_dir", folder)], output)
    except DivergedError:
        return Candidate(overrides, None, 0, 0.0)
    metrics = FinishedRun.open(folder).metrics
    return Candidate(overrides, metrics.dev.criterion, metrics.train_target_tokens, metrics.train_seconds)


def _loss(candidate: Candidate) -> float:
    return math.inf if candidate.dev_loss is None else candidate.dev_loss


def search_rates(rates: Sequence[float], loss_of: Callable[[float], float]) -> dict[float, float]:
    """Return the loss of every learning rate that the search tries, in this order.

    Args:
        rates: the grid. One alone is no search, and is not extended.
        loss_of: trains with a rate and returns its dev loss, infinite where the training diverged.

    Raises:
        UserError: all trainings diverged.
    """
    losses = {rate: loss_of(rate) for rate in rates}
    if not any(map(math.isfinite, losses.values())):
        raise UserError(f"learning_rates={list(rates)}: all trainings diverged: set lower ones")
    for _ in range(EXTENSIONS):
        rate = rate_beyond(losses)
        if rate is None:
            break
        losses[rate] = loss_of(rate)
    return losses


def possible_rates(rates: Sequence[float]) -> list[float]:
    """Return all learning rates that a search with this grid may try."""
    powers = [FACTOR**number for number in range(1, EXTENSIONS + 1)]
    return [*rates, *(max(rates) * power for power in powers), *(min(rates) / power for power in powers)]


def rate_beyond(losses: Mapping[float, float]) -> float | None:
    """Return the rate beyond the end of a grid that has the lowest loss; None if the lowest loss is at no end."""
    best = min(losses, key=lambda rate: losses[rate])
    end = grid_end(best, losses)
    return None if end is None else best * FACTOR if end == "highest" else best / FACTOR
