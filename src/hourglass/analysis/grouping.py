"""Finished runs in groups: by one setting or several, so that the runs of a group differ in the seed alone."""

import difflib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hourglass.config.differences import PLACES
from hourglass.config.options import Config
from hourglass.errors import UserError
from hourglass.training.finished import FinishedRun

SEED = "seed"

# What runs can be grouped by beside their settings: the run folder, the commit of the code, the content of the corpus.
RUN, COMMIT, CORPUS = "run", "commit", "corpus digest"

# Settings of where and how a run computes. Runs that differ in them alone compute the same, up to rounding.
ROUNDING = (
    *(f"trainer.{name}" for name in ("accelerator", "devices", "nodes", "strategy", "threads", "accumulate")),
    *("trainer.cuda_graphs", "trainer.step_loop", "search.batch_tokens"),
)

# Settings that do not change the translations of a run.
WITHOUT_EFFECT = (
    *("edges", "metrics", "plugins"),
    *(f"trainer.{name}" for name in ("timeout", "checkpoint_every", "keep", "log_every", "pictures", "test")),
)


@dataclass(frozen=True, eq=False)
class RunGroup:
    """Finished runs with the same settings, and each with another seed.

    Attributes:
        name: in tables and figures.
        values: of the settings that the runs are grouped by, as text.
        runs: in the order of their seeds.
    """

    name: str
    values: Mapping[str, str]
    runs: Sequence[FinishedRun]

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs."""
        return [run.metrics.seed for run in self.runs]

    def named_without(self, axis: str) -> str:
        """Return the name that the group has without one of its axes."""
        return _name({key: value for key, value in self.values.items() if key != axis})

    def setting(self, key: str) -> str:
        """Return the value of a setting, as text."""
        return _facts(self.runs[0]).get(key, "null")


@dataclass(frozen=True)
class Grouping:
    """Finished runs in groups.

    Attributes:
        axes: the settings that the runs are grouped by. Those that were asked for come first.
        asked: how many of the axes were asked for.
        groups: in the order of their values: numbers from low to high, others as in the order of the runs.
        along: further settings in which groups differ, but not the runs of any group.
        rounding: settings in `ROUNDING` in which the runs of a group differ.
        repeated: of each run that repeats another of its group, and is in no group, the reason.
    """

    axes: list[str]
    asked: int
    groups: list[RunGroup]
    along: list[str]
    rounding: list[str]
    repeated: dict[str, str]

    def partner(self, group: RunGroup, value: str) -> RunGroup | None:
        """Return the group that has another value on the first axis and the same on all others; None if none has."""
        wanted = {**group.values, self.axes[0]: value}
        return next((other for other in self.groups if other.values == wanted), None)


def open_finished(paths: Sequence[str]) -> tuple[list[FinishedRun], dict[str, str]]:
    """Open the run folders that hold a finished run with a translated test split.

    Returns:
        the runs; of each other path the reason why it is left out.

    Raises:
        UserError: a path does not exist.
    """
    runs: list[FinishedRun] = []
    left_out: dict[str, str] = {}
    seen: dict[Path, str] = {}
    for path in paths:
        place = Path(path).expanduser().resolve()
        if not place.exists():
            raise UserError(f"run={path}: not a run folder (no such file or folder)")
        if place in seen:  # Given twice, or a link.
            left_out[path] = f"{path}: the same folder as {seen[place]}"
            continue
        seen[place] = path
        try:
            runs.append(_open(path))
        except UserError as error:
            left_out[path] = str(error)
    return runs, left_out


def find_settings(names: Sequence[str], runs: Sequence[FinishedRun]) -> list[str]:
    """Return the settings of these names, each once; for a config group, such as attention, that of its choice.

    Raises:
        UserError: no run has such a setting.
    """
    known = {key for run in runs for key in _facts(run)}
    result: dict[str, None] = {}
    for name in names:
        if name not in known and f"{name}.name" not in known:
            alike = sorted(key for key in known if key.startswith(f"{name}."))
            close = difflib.get_close_matches(name, sorted(known), 3, cutoff=0.8) or alike[:3]
            hint = f"did you mean {' or '.join(close)}?" if close else f"give a setting, {RUN}, {COMMIT} or {SEED}"
            raise UserError(f"by={name}: no run has such a setting: {hint}")
        result[name if name in known else f"{name}.name"] = None
    return list(result)


def group_runs(runs: Sequence[FinishedRun], by: Sequence[str]) -> Grouping:
    """Group runs by settings, and by as many more as it takes for the runs of a group to differ in the seed alone.

    Args:
        runs: of one test set.
        by: settings, as `find_settings` returns them; empty: as few of the settings in which the runs differ as tell
            their groups apart.

    Raises:
        UserError: two runs of a group have the same seed and other translations.
    """
    facts = [{**_facts(run), RUN: name} for run, name in zip(runs, _folder_names(runs), strict=True)]
    keys = list(dict.fromkeys(key for known in facts for key in known))
    differing = [key for key in keys if len({known.get(key, "null") for known in facts}) > 1]
    deciding = [key for key in differing if key not in (SEED, RUN, COMMIT, *ROUNDING) and not _is_idle(key)]
    axes = _choose_axes(facts, by, [key for key in deciding if key not in by])
    parts: dict[tuple[str, ...], list[FinishedRun]] = defaultdict(list)
    for run, known in zip(runs, facts, strict=True):
        parts[tuple(known.get(key, "null") for key in axes)].append(run)
    known_of = dict(zip(runs, facts, strict=True))
    groups: list[RunGroup] = []
    repeated: dict[str, str] = {}
    for values in sorted(parts, key=lambda values: _place(values, list(parts))):
        members, left_out = _first_of_each_seed(parts[values])
        named = dict(zip(axes, values, strict=True))
        groups.append(RunGroup(_name(named), named, members))
        repeated |= left_out
    return Grouping(
        axes=axes,
        asked=len(by),
        groups=groups,
        along=[key for key in deciding if key not in axes],
        rounding=[
            key
            for key in differing
            if key in ROUNDING and any(len({known_of[run].get(key) for run in group.runs}) > 1 for group in groups)
        ],
        repeated=repeated,
    )


def _is_idle(key: str) -> bool:
    """Whether a setting, or the group that it is of, does not change translations."""
    return key in WITHOUT_EFFECT or key.partition(".")[0] in WITHOUT_EFFECT


def shown_setting(key: str) -> str:
    """Return the name of a setting for a reader, as a command line has it: of a group's choice, that of the group."""
    return key.removesuffix(".name")


def setting_text(value: Any) -> str:
    """Return a setting as text, equal for equal values: 1 for 1.0, true, null, a list as JSON."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float | int):
        return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def axis_numbers(grouping: Grouping) -> dict[str, list[float]]:
    """Return the axes all of whose values are numbers, at least two of them, with the values from low to high."""
    numbers: dict[str, list[float]] = {}
    for axis in grouping.axes:
        values = {_number(group.values[axis]) for group in grouping.groups}
        if None not in values and len(values) > 1 and axis not in (RUN, COMMIT, CORPUS):
            numbers[axis] = sorted(value for value in values if value is not None)
    return numbers


def _open(path: str) -> FinishedRun:
    """Return a finished run, whose scores and translations have been read."""
    run = FinishedRun.open(path)
    if not run.folder.metrics.exists():
        raise UserError(f"{path}: not finished (it has no {run.folder.metrics.name})")
    _check_content(run)
    untested = run.metrics.test is None and not run.folder.translations.exists()
    try:
        if run.translations:  # Those of a run of an ablation are outside of its folder.
            return run
    except UserError:
        if not untested:
            raise
    if run.folder.sentence_scores.exists():
        raise UserError(
            f"{path}: kept by an ablation without its translations (docs/ablation.md): its report compares the scores"
        )
    raise UserError(f"{path}: its test split was not translated (trainer.test=false, or pruned by a search)")


def _facts(run: FinishedRun) -> dict[str, str]:
    """Return settings, folder, commit and corpus of a run as text, by name."""
    settings = _flat({key: value for key, value in run.config.items() if key not in PLACES})
    own = {RUN: str(run.path), COMMIT: run.metrics.code, CORPUS: run.metrics.corpus_digest[:12]}
    plugins = {f"plugins.{name}": _plugin_digest(record) for name, record in run.metrics.plugins.items()}
    return {**settings, SEED: str(run.metrics.seed), **own, **plugins}


def _check_content(run: FinishedRun) -> None:
    """Check that a run, which may come from a stranger, has what the comparison reads of its settings and metrics."""
    data, edges, metrics = (run.config.get(name) for name in ("data", "edges", "metrics"))
    pairs = run.metrics.corpus.get("pairs")
    whole = (
        isinstance(data, Mapping)
        and all(isinstance(data.get(key), str) for key in ("name", "source", "target"))
        and isinstance(metrics, Mapping)
        and isinstance(metrics.get("main"), str)
        and isinstance(edges, list)
        and all(isinstance(edge, int) for edge in edges)
        and isinstance(run.metrics.corpus.get("digest"), str)
        and isinstance(pairs, Mapping)
        and isinstance(pairs.get("train"), int)
    )
    if not whole:
        raise UserError(f"{run.path}: its settings or metrics are not those of a training")


def _folder_names(runs: Sequence[FinishedRun]) -> list[str]:
    """Return the names of the run folders, or their paths where two have the same name."""
    names = [run.path.name for run in runs]
    return names if len(set(names)) == len(runs) else [str(run.path) for run in runs]


def _plugin_digest(record: Any) -> str:
    return str(record.get("digest", record) if isinstance(record, Mapping) else record)[:12]


def _flat(values: Config, prefix: str = "") -> dict[str, str]:
    """Return settings as text by their full names. What is empty is as good as what is not there."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = setting_text(value or None if isinstance(value, list) else value)
    return flat


def _choose_axes(facts: Sequence[Mapping[str, str]], asked: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return `asked`, and as few others as it takes to tell apart whatever the others together tell apart.

    Names of choices, such as attention.name, come first, as they are what an ablation is about; then the settings that
    tell most groups apart.
    """

    def parts(keys: Sequence[str]) -> int:
        return len({tuple(known.get(key, "null") for key in keys) for known in facts})

    axes, goal = list(asked), parts([*asked, *others])
    while parts(axes) < goal:
        more = [key for key in others if parts([*axes, key]) > parts(axes)]
        axes.append(max(more, key=lambda key: (key.endswith(".name"), parts([*axes, key]))))
    for key in axes[len(asked) :]:
        without = [axis for axis in axes if axis != key]
        if not key.endswith(".name") and parts(without) == goal:
            axes = without
    return axes


def _first_of_each_seed(runs: Sequence[FinishedRun]) -> tuple[list[FinishedRun], dict[str, str]]:
    """Return runs of one group in the order of their seeds, and why each other path is left out.

    A run that repeats another is no further sample of how seeds vary.

    Raises:
        UserError: two runs with the same seed translate differently.
    """
    first: dict[int, FinishedRun] = {}
    left_out = {}
    for run in runs:
        seed = run.metrics.seed
        other = first.setdefault(seed, run)
        if other is run:
            continue
        if other.translations != run.translations:
            raise UserError(
                f"{other.path} and {run.path}: the same settings and seed, {seed}, and other translations (commits "
                f"{other.metrics.code} and {run.metrics.code}): leave out one, or set by=run or by=commit"
            )
        left_out[str(run.path)] = f"{run.path}: repeats {other.path}: the same settings, seed and translations"
    return [first[seed] for seed in sorted(first)], left_out


def _name(values: Mapping[str, str]) -> str:
    """Return the name of a group: names of choices and folders alone, other values with their setting."""
    words = [
        value if axis.endswith(".name") or axis in (RUN, COMMIT) else f"{axis}={value}"
        for axis, value in values.items()
    ]
    return ", ".join(words) or "all runs"


def _place(values: Sequence[str], parts: Sequence[Sequence[str]]) -> list[float]:
    """Return the key by which groups are sorted."""
    place: list[float] = []
    for axis, value in enumerate(values):
        column = list(dict.fromkeys(part[axis] for part in parts))
        numbers = [_number(other) for other in column]
        number = _number(value)
        place.append(float(column.index(value)) if None in numbers or number is None else number)
    return place


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
