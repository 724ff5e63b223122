"""The summary of a sweep: one table of its jobs, and the commands that compare their runs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hourglass.errors import UserError
from hourglass.metrics.metrics import METRICS, heading_of
from hourglass.metrics.scoring import main_of, show_bounds
from hourglass.reports.document import Table
from hourglass.system.commands import printed_command
from hourglass.training.finished import FinishedRun, RunMetrics


@dataclass(frozen=True)
class SweptJob:
    """A job of a sweep that has ended.

    Attributes:
        number: of the job, or of the trial.
        state: complete, pruned or failed.
        choices: the settings that vary, as words of a command line, by key.
        runs: its run folders: none for a job that failed before it made one, several for a trial with several seeds.
        error: of a job that failed.
        values: further numbers of the job, by the heading of their column.
    """

    number: int
    state: str
    choices: Mapping[str, str]
    runs: Sequence[str] = ()
    error: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)


def varying(overrides: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """Return, for each job's overrides, those whose values are not the same in all jobs, by key."""
    by_key = [dict(word.partition("=")[::2] for word in words) for words in overrides]
    keys = list(dict.fromkeys(key for words in by_key for key in words))
    differ = [key for key in keys if len({words.get(key) for words in by_key}) > 1]
    return [{key: words[key] for key in differ if key in words} for words in by_key]


def jobs_table(jobs: Sequence[SweptJob], kind: str) -> Table:
    """Return the table of jobs: choices that vary, dev, test, and the score by length; means over seeds, if several.

    Args:
        jobs: in the order of the rows.
        kind: heading of their numbers: job, trial.
    """
    metrics = {job.number: _metrics(job) for job in jobs}
    keys = list(dict.fromkeys(key for job in jobs for key in job.choices))
    others = list(dict.fromkeys(name for job in jobs for name in job.values))
    buckets = sorted({bucket for job in jobs for run in metrics[job.number] for bucket in _buckets(run)}, key=_bounds)
    tested = any(run.test is not None for runs in metrics.values() for run in runs)
    title = _title([run for runs in metrics.values() for run in runs])
    head = [kind, *keys, "state", *others, f"dev {title}", "dev loss", *([f"test {title}"] if tested else [])]
    head += [f"{show_bounds(bucket)} words" for bucket in buckets]
    rows = []
    for job in jobs:
        runs = metrics[job.number]
        row = [str(job.number), *(job.choices.get(key, "") for key in keys), job.state]
        row += [f"{job.values[name]:.6g}" if name in job.values else "" for name in others]
        row += [_mean([run.dev.score for run in runs], 2), _mean([run.dev.loss for run in runs], 3)]
        tests = [run.test[main_of(run.test)] for run in runs if run.test is not None]
        row += [_mean(tests, 2)] if tested else []
        row += [_mean([_buckets(run)[bucket] for run in runs if bucket in _buckets(run)], 2) for bucket in buckets]
        rows.append([*row, *([job.runs[0] if len(job.runs) == 1 else f"{len(job.runs)} runs"] if job.runs else [""])])
    caption = f"The last columns: {title} on test by source words."
    return Table("jobs", [*head, "run"], rows, caption, text_columns=len(keys) + 2)


def summarise_jobs(jobs: Sequence[SweptJob], kind: str) -> str:
    """Return the table of jobs as text, the errors of those that failed, and the commands that compare the others."""
    table = jobs_table(jobs, kind)
    lines = [text_table(table), ""]
    lines += [f"{kind} {job.number} failed: {job.error}" for job in jobs if job.error is not None]
    commands = comparing_commands(jobs)
    if commands:
        lines += ["to compare them on test:", *(f"  {command}" for command in commands)]
    return "\n".join(lines).rstrip()


def text_table(table: Table) -> str:
    """Return a table as aligned text."""
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    last = len(widths) - 1
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < table.text_columns or index == last else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [table.head, *table.rows]
    )


def comparing_commands(jobs: Sequence[SweptJob]) -> list[str]:
    """Return commands for the jobs that share a test set: the best on dev with the first, and all in groups.

    The best is the one with the best score that selects checkpoints (trainer.select). It is compared with the first
    that differs from it in more than the seed. Jobs of several main metrics are compared by that of the first, and have
    no best.
    """
    scores: dict[str, list[tuple[float, Path, dict[str, str]]]] = defaultdict(list)
    metrics: dict[str, dict[str, None]] = defaultdict(dict)
    for job in jobs:
        for path in job.runs:
            run = _read(path)
            if run is not None and run.test is not None:
                by_loss = FinishedRun.open(path).config["trainer"]["select"] == "loss"
                settings = {key: value for key, value in job.choices.items() if key != "seed"}
                rank = -run.dev.loss if by_loss else _rank(run.dev.metric, run.dev.score)
                scores[run.corpus_digest].append((rank, Path(path), settings))
                metrics[run.corpus_digest][main_of(run.test)] = None
    commands = []
    for digest, group in scores.items():
        if len(group) < 2:
            continue
        paths = [path for _, path, _ in group]
        if len(metrics[digest]) > 1:
            commands.append(printed_command("pipelines/compare.py", *paths, f"metric={next(iter(metrics[digest]))}"))
            continue
        _, best, settings = max(group, key=lambda scored: scored[0])
        others = [path for _, path, other in group if other != settings]
        commands += [printed_command("pipelines/compare.py", best, other) for other in others[:1]]
        if len(paths) > 2 or not others:
            commands.append(printed_command("pipelines/compare.py", *paths))
    return commands


def _metrics(job: SweptJob) -> list[RunMetrics]:
    return [run for run in map(_read, job.runs) if run is not None]


def _read(path: str) -> RunMetrics | None:
    """Return the metrics of a run; None where they cannot be read, as for a run of another machine."""
    try:
        return FinishedRun.open(path).metrics
    except UserError:
        return None


def _buckets(run: RunMetrics) -> dict[tuple[int, int | None], float]:
    """Return the main metric on test by the bounds of the buckets that have sentences."""
    test = run.test or {}
    buckets, main = test.get("buckets", []), main_of(test)
    return {tuple(bucket["source_words"]): bucket[main] for bucket in buckets if bucket["sentences"]}


def _title(runs: Sequence[RunMetrics]) -> str:
    """Return what the columns of the main metric are called: its heading, or `score` where runs have several."""
    names = {run.dev.metric for run in runs}
    if len(names) != 1:
        return "score"
    (name,) = names
    return heading_of(name)


def _rank(metric: str, score: float) -> float:
    """Return a number that is larger for a better score; of a plugin's metric that is not loaded, the score itself."""
    return -score if metric in METRICS and not METRICS[metric].higher_is_better else score


def _bounds(bucket: tuple[int, int | None]) -> tuple[int, float]:
    low, high = bucket
    return low, float("inf") if high is None else high


def _mean(values: Sequence[float], digits: int) -> str:
    return f"{sum(values) / len(values):.{digits}f}" if values else ""
