"""Finished runs in groups: the rule that makes the groups, and their scores against sacreBLEU and numpy."""

import copy
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import finished_metrics, run_script
from sacrebleu.metrics import BLEU
from scipy import stats

from hourglass.analysis import comparing
from hourglass.analysis.comparing import GroupScores, TestSetComparison, compare_groups
from hourglass.analysis.grouping import (
    RUN,
    axis_numbers,
    find_settings,
    group_runs,
    open_finished,
    setting_text,
)
from hourglass.corpora.overlap import CorpusOverlap, SideOverlap
from hourglass.errors import UserError
from hourglass.metrics.significance import draw_resamples
from hourglass.reports.comparison import note_on_undefined, write_comparison
from hourglass.reports.document import Bullets, Picture, Table
from hourglass.reports.phrases import show_p
from hourglass.runs.translations import write_translations
from hourglass.training.finished import FinishedRun

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
CONFIG: dict[str, Any] = {
    "seed": 1,
    "run_dir": None,
    "cache": "cache",
    "edges": [1, 8],
    "data": {"name": "numbers", "source": "en", "target": "fr"},
    "encoder": {"name": "rnn", "cell": "lstm", "hidden_size": 16, "summary_size": 16},
    "decoder": {"start": "dense"},
    "attention": {"name": "none"},
    "optimizer": {"name": "adam", "learning_rate": 0.001},
    "trainer": {"threads": 1, "log_every": 10},
    "logger": {"name": "csv"},
}
Make = Callable[..., str]


def sentences(number: int = 60) -> list[str]:
    choose = random.Random(0)
    return [" ".join(choose.choices(WORDS, k=4 + index % 9)) for index in range(number)]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that writes a finished run: its name, the share of words that are wrong, and its settings."""
    monkeypatch.chdir(tmp_path)

    def write(
        name: str,
        wrong: float = 0.2,
        texts: Sequence[str] = sentences(),  # Read only.
        *,
        digest: str = "d" * 64,
        test_pairs: int | None = None,
        commit: str = "c" * 40,
        **settings: Any,
    ) -> str:
        config = copy.deepcopy(CONFIG)
        for key, value in settings.items():
            group, _, option = key.partition("__")
            if option:
                config[group][option] = value
            else:
                config[group] = value
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        corpus = {"digest": digest, "pairs": {"train": 300, "test": test_pairs or len(texts)}}
        metrics = finished_metrics(seed=config["seed"], corpus=corpus, commit=commit)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        choose = random.Random(name)
        outputs = [" ".join(choose.choice(WORDS) if choose.random() < wrong else w for w in t.split()) for t in texts]
        rows = [
            (f"t{index}", text, text, output) for index, (text, output) in enumerate(zip(texts, outputs, strict=True))
        ]
        write_translations(folder / "translations.test.tsv", rows)
        curve = [f"{step},dev/loss,{loss}" for step, loss in zip((1, 2, 3, 4, 5), (3, 2, 1.5, 1.001, 1), strict=True)]
        tokens = [f"{step},train/target_tokens,{40_000 * step}" for step in range(1, 6)]
        (folder / "curves.csv").write_text("\n".join(["step,name,value", *tokens, *curve, ""]))
        return str(folder)

    return write


def opened(*paths: str) -> list[FinishedRun]:
    runs, left_out = open_finished(paths)
    assert not left_out
    return runs


def test_runs_that_differ_in_the_seed_alone_are_one_group(make: Make) -> None:
    runs = opened(make("b", seed=2, trainer__log_every=1, run_dir="x"), make("a", seed=1, cache="elsewhere"))
    grouping = group_runs(runs, [])
    assert (grouping.axes, grouping.along) == ([], [])
    (group,) = grouping.groups
    assert (group.name, group.seeds) == ("all runs", [1, 2])


def test_groups_are_in_the_order_of_their_numbers(make: Make) -> None:
    paths = [make(f"{size}-{seed}", seed=seed, encoder__summary_size=size) for size in (16, 128, 4) for seed in (1, 2)]
    runs = opened(*paths)
    grouping = group_runs(runs, ["encoder.summary_size"])
    assert [group.values["encoder.summary_size"] for group in grouping.groups] == ["4", "16", "128"]
    assert grouping.groups[0].name == "encoder.summary_size=4"
    assert axis_numbers(grouping) == {"encoder.summary_size": [4, 16, 128]}
    # The same without being asked, as it is the only setting that differs.
    assert group_runs(runs, []).axes == ["encoder.summary_size"]


def test_a_setting_that_differs_within_a_group_becomes_an_axis(make: Make) -> None:
    grid = [(size, name) for size in (4, 8) for name in ("none", "fixed")]
    runs = opened(*(make(f"{s}{n}", encoder__summary_size=s, attention={"name": n}) for s, n in grid))
    grouping = group_runs(runs, ["encoder.summary_size"])
    assert (grouping.axes, grouping.asked) == (["encoder.summary_size", "attention.name"], 1)
    assert [group.name for group in grouping.groups] == [f"encoder.summary_size={size}, {name}" for size, name in grid]
    assert all(len(group.runs) == 1 for group in grouping.groups)


def test_a_setting_that_goes_along_with_an_axis_is_named(make: Make) -> None:
    """Each attention has its own learning rate: the groups are by attention, and the rate is named beside them."""
    rates = {"none": 0.01, "fixed": 0.002, "mean": 0.003}
    runs = opened(
        *(
            make(f"{name}{seed}", seed=seed, attention={"name": name}, optimizer__learning_rate=rate)
            for name, rate in rates.items()
            for seed in (1, 2)
        )
    )
    grouping = group_runs(runs, [])
    assert (grouping.axes, grouping.along) == (["attention.name"], ["optimizer.learning_rate"])
    assert [group.setting("optimizer.learning_rate") for group in grouping.groups] == ["0.01", "0.002", "0.003"]


def test_names_of_choices_come_before_numbers_that_tell_as_much(make: Make) -> None:
    runs = opened(
        make("a", optimizer__learning_rate=0.1),
        make("b", optimizer__learning_rate=0.2),
        make("c", optimizer__learning_rate=0.3, attention={"name": "fixed"}),
    )
    assert group_runs(runs, []).axes == ["attention.name", "optimizer.learning_rate"]


def test_equal_numbers_and_rounding_make_no_groups(make: Make) -> None:
    runs = opened(
        make("a", optimizer__learning_rate=1, trainer__threads=1),
        make("b", seed=2, optimizer__learning_rate=1.0, trainer__threads=2),
    )
    grouping = group_runs(runs, [])
    assert (grouping.axes, grouping.rounding) == ([], ["trainer.threads"])
    assert [setting_text(value) for value in (1.0, 1, True, None, 1e-5, "1", float("inf"))] == [
        *("1", "1", "true", "null", "1e-05", "1", "inf")
    ]


@pytest.mark.parametrize(("corpus", "option"), [("kjv_web", {"clauses": 0}), ("multi30k", {"captions": 1})])
def test_an_option_at_its_default_tells_no_run_from_one_that_is_older_than_it(
    make: Make, corpus: str, option: dict[str, int]
) -> None:
    older = {"data": CONFIG["data"] | {"name": corpus}, "search": {"beam": 1}}
    newer = {"data": older["data"] | {**option, "curriculum": 0.0}, "search": {"beam": 1, "precision": 32}}
    paths = [make("older", **older), make("newer", seed=2, trainer__null_source=0.0, **newer)]
    grouping = group_runs(opened(*paths), [])
    assert (grouping.axes, [group.seeds for group in grouping.groups]) == ([], [[1, 2]])


def test_another_corpus_under_the_same_settings_is_another_group(make: Make) -> None:
    runs = opened(make("a"), make("b", seed=2, digest="e" * 64))
    assert group_runs(runs, []).axes == ["corpus digest"]


def test_every_group_has_one_setting_of_everything_and_no_axis_is_in_vain(make: Make) -> None:
    """For random settings: the groups are the classes of equal settings, and each further axis tells two apart."""
    choose = random.Random(1)
    for trial in range(12):
        paths = [
            make(
                f"{trial}-{number}",
                seed=number,
                encoder__summary_size=choose.choice([4, 8]),
                encoder__cell=choose.choice(["lstm", "gru"]),
                attention={"name": choose.choice(["none", "fixed"])},
                optimizer__learning_rate=choose.choice([0.1, 0.2, 0.3]),
            )
            for number in range(choose.randint(2, 7))
        ]
        runs = opened(*paths)
        by = choose.choice([[], ["encoder.cell"]])
        grouping = group_runs(runs, by)

        def settings(run: FinishedRun) -> str:
            return str([run.config[group] for group in ("encoder", "attention", "optimizer")])

        classes = sorted(
            sorted(run.metrics.seed for run in runs if settings(run) == item) for item in set(map(settings, runs))
        )
        assert sorted(group.seeds for group in grouping.groups) == classes
        assert grouping.axes[: len(by)] == by
        for axis in set(grouping.axes[len(by) :]) - {"attention.name"}:
            without = {tuple(v for k, v in group.values.items() if k != axis) for group in grouping.groups}
            assert len(without) < len(grouping.groups)


def test_settings_are_found_by_their_names(make: Make) -> None:
    runs = opened(make("a"), make("b", seed=2))
    assert find_settings(["attention", "data", "encoder.cell", "seed", "run", "attention.name"], runs) == [
        *("attention.name", "data.name", "encoder.cell", "seed", "run")
    ]
    with pytest.raises(UserError, match=r"by=encoder.sumary_size: .* did you mean encoder.summary_size\?"):
        find_settings(["encoder.sumary_size"], runs)
    with pytest.raises(UserError, match=r"by=trainer: .* did you mean trainer.log_every or trainer.null_source or"):
        find_settings(["trainer"], runs)


def test_a_run_that_repeats_another_is_no_second_sample(make: Make) -> None:
    first, again = make("a/x"), make("b/x", commit="e" * 40)
    other = make("c", seed=2)
    (Path(again) / "translations.test.tsv").write_bytes((Path(first) / "translations.test.tsv").read_bytes())
    grouping = group_runs(opened(first, again, other), [])
    assert [group.seeds for group in grouping.groups] == [[1, 2]]
    assert list(grouping.repeated) == [again]
    # By commit, or by run, whose names are then told apart by their folders, each counts.
    assert len(group_runs(opened(first, again), ["commit"]).groups) == 2
    assert [group.name for group in group_runs(opened(first, again), ["run"]).groups] == [first, again]
    with pytest.raises(UserError, match=r"a/x and runs/d: the same settings and seed, 1, and other translations"):
        group_runs(opened(first, make("d"), other), [])


def test_runs_that_are_not_finished_are_left_out(make: Make) -> None:
    good = make("good")
    names = ("running", "untested", "kept", "damaged", "foreign")
    running, untested, kept, damaged, foreign = map(make, names)
    (Path(running) / "metrics.json").unlink()
    for path in (untested, kept):
        (Path(path) / "translations.test.tsv").unlink()
    (Path(kept) / "sentence_scores.npz").touch()
    table = Path(damaged) / "translations.test.tsv"
    table.write_text(table.read_text()[:-5])
    (Path(foreign) / "config.yaml").write_text("seed: 1\n")
    Path("runs/mlflow.db").touch()
    Path("runs/multirun").mkdir()
    Path("runs/latest").symlink_to("good")
    paths = [good, running, untested, kept, damaged, foreign, "runs/mlflow.db", "runs/multirun", "runs/latest"]
    runs, left_out = open_finished(paths)
    assert [str(run.path) for run in runs] == [good]
    assert list(left_out) == paths[1:]
    reasons = [
        "not finished",
        "was not translated",
        "kept by an ablation without its translations",
        "not a whole file",
        "not those of a training",
        *["not a run folder"] * 2,
        "the same folder as runs/good",
    ]
    assert all(reason in message for reason, message in zip(reasons, left_out.values(), strict=True))
    with pytest.raises(UserError, match="run=nowhere: not a run folder"):
        open_finished([good, "nowhere"])


def score(run: FinishedRun, chosen: Sequence[int]) -> float:
    """Return sacreBLEU's own score of the sentences with these indices."""
    rows = [run.translations[index] for index in chosen]
    return BLEU().corpus_score([row.hypothesis for row in rows], [[row.reference for row in rows]]).score


def test_means_and_intervals_against_sacrebleu_and_numpy(make: Make) -> None:
    """Groups of three, two and two seeds; every resample is scored by sacreBLEU, every interval by its formula."""
    resamples, groups, texts = 40, {4: [1, 2, 3], 8: [1, 2], 16: [5, 6]}, sentences(30)
    runs = {
        size: opened(*(make(f"{size}-{n}", 0.9 / size**0.5, texts, seed=n, encoder__summary_size=size) for n in seeds))
        for size, seeds in groups.items()
    }
    everyone = [run for members in runs.values() for run in members]
    (part,) = compare_groups(everyone, ["encoder.summary_size"], "8", resamples)
    draws = [np.repeat(np.arange(30), row.astype(int)) for row in draw_resamples(30, resamples)]
    value = {size: np.array([score(run, range(30)) for run in members]) for size, members in runs.items()}
    drawn = {
        size: np.array([[score(run, list(draw)) for draw in draws] for run in members]).mean(0)
        for size, members in runs.items()
    }
    freedom = sum(len(seeds) - 1 for seeds in groups.values())
    pooled = sum(((of - of.mean()) ** 2).sum() for of in value.values()) / freedom
    by_size = dict(zip(groups, part.scores, strict=True))
    p_values = []
    for size, item in by_size.items():
        assert item.score.whole.mean == pytest.approx(value[size].mean())
        assert item.score.whole.spread == pytest.approx(value[size].std(ddof=1))
        low, high = np.sort(drawn[size])[[1, -2]]
        assert item.score.whole.interval is not None
        assert (item.score.whole.interval.low, item.score.whole.interval.high) == pytest.approx((low, high))
        quantiles = np.asarray(stats.t.ppf(0.975, [29, freedom])) ** 2
        width = np.sqrt(quantiles @ [drawn[size].var(ddof=1), pooled / len(groups[size])])
        assert item.pooled is not None
        assert (item.pooled.low, item.pooled.high) == pytest.approx(
            (value[size].mean() - width, value[size].mean() + width)
        )
        assert item.own_spread is not None
        if size == 8:
            assert (item.baseline, item.difference) == (None, None)
            continue
        assert item.baseline == "encoder.summary_size=8"
        assert item.difference is not None
        lead = drawn[size] - drawn[8]
        difference = value[size].mean() - value[8].mean()
        assert item.difference.whole.value == pytest.approx(difference)
        seeds = pooled * (1 / len(groups[size]) + 1 / len(groups[8]))
        width = np.sqrt(quantiles @ [lead.var(ddof=1), seeds])
        interval = item.difference.whole.architecture
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx((difference - width, difference + width))
        p_values.append(item.difference.whole.p or 0.0)
    # Holm's method on two values: the smaller is doubled, the larger at least as large.
    low, high = sorted(p_values)
    expected = {low: min(1.0, 2 * low), high: max(min(1.0, 2 * low), high)}
    assert [p_holm(by_size[size]) for size in (4, 16)] == pytest.approx([expected[p] for p in p_values])


def p_holm(item: GroupScores) -> float | None:
    assert item.difference is not None
    return item.difference.whole.p_holm


def test_holm_over_all_lengths_and_groups(make: Make) -> None:
    texts = sentences(90)  # 30 and more in each bucket.
    paths = [make(f"{size}", 1 / size, texts, encoder__summary_size=size) for size in (2, 3, 4)]
    (part,) = compare_groups(opened(*paths), [], None, 200)
    rows = [row for item in part.scores if item.difference for row in item.difference.by_length.values()]
    assert len(rows) == 4
    ranked = sorted(rows, key=lambda row: row.p or 0)
    least = 0.0
    for rank, row in enumerate(ranked):
        assert row.p is not None
        least = max(least, min(1.0, (4 - rank) * row.p))
        assert row.p_holm == pytest.approx(least)


def test_the_clean_part_is_scored_as_a_test_set_of_its_own(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two corpora: a sentence counts as clean if neither has one of its n-grams in train."""
    runs = opened(make("a", 0.3, digest="a" * 64), make("b", 0.6, digest="b" * 64, attention__name="mean"))
    shared = {"a" * 64: {3, 5}, "b" * 64: set(range(40, 60))}

    def overlap(corpus: Any) -> CorpusOverlap:
        sides: Any = {
            "source": SideOverlap([9] * 60, [9] * 60),
            "target": SideOverlap([9] * 60, [8 * (row in shared[corpus.digest]) for row in range(60)]),
        }
        return CorpusOverlap(corpus.digest, {"test": [f"t{row}" for row in range(60)]}, {"test": sides})

    def corpus_of(run: FinishedRun) -> SimpleNamespace:
        return SimpleNamespace(facts=SimpleNamespace(leaks_removed=True), digest=run.metrics.corpus_digest)

    monkeypatch.setattr(comparing, "corpus_overlap", overlap)
    monkeypatch.setattr(FinishedRun, "corpus", property(corpus_of))
    (part,) = compare_groups(runs, [RUN], None, 40, clean=True)
    clean = [row for row in range(40) if row not in (3, 5)]
    assert part.clean is not None
    assert [row.id for row in part.clean.test.rows] == [f"t{row}" for row in clean]
    assert [item.score.whole.mean for item in part.clean.scores] == pytest.approx([score(run, clean) for run in runs])
    assert [item.score.whole.mean for item in part.scores] == pytest.approx([score(run, range(60)) for run in runs])
    table = tables_of([part])["clean"]
    assert table.rows[0][1:4] == ["38*", f"{score(runs[0], range(60)):.2f}", f"{score(runs[0], clean):.2f}"]
    (other,) = compare_groups(runs, [RUN], None, 40)
    assert other.clean is None
    assert "clean" not in tables_of([other])
    monkeypatch.setattr(FinishedRun, "corpus", SimpleNamespace(facts=SimpleNamespace(leaks_removed=False)))
    (made,) = compare_groups(runs, [RUN], None, 40, clean=True)
    assert made.clean is None


def test_differences_are_along_the_first_axis(make: Make) -> None:
    grid = [("none", "lstm"), ("none", "gru"), ("fixed", "lstm"), ("fixed", "gru"), ("mean", "gru")]
    runs = opened(*(make(f"{name}-{cell}", attention={"name": name}, encoder__cell=cell) for name, cell in grid))
    by = ["attention.name", "encoder.cell"]

    def baselines(baseline: str | None) -> dict[str, str | None]:
        (part,) = compare_groups(runs, by, baseline, 100)
        return {"-".join(item.group.values.values()): item.baseline for item in part.scores}

    first = {f"{name}-{cell}": None if name == "none" else f"none, encoder.cell={cell}" for name, cell in grid}
    assert baselines(None) == first
    last = baselines("mean")
    assert last["none-gru"] == last["fixed-gru"] == "mean, encoder.cell=gru"
    assert last["none-lstm"] is last["fixed-lstm"] is last["mean-gru"] is None  # There is no mean with an LSTM.
    with pytest.raises(UserError, match=r"baseline=dot: no group has attention=dot; choose from none, fixed, mean"):
        baselines("dot")
    # A run is named by its folder or its path.
    for baseline in ("none-gru", "runs/none-gru"):
        (part,) = compare_groups(runs, ["run"], baseline, 100)
        assert {item.baseline for item in part.scores} == {None, "none-gru"}


def test_different_test_sets_are_never_compared(make: Make) -> None:
    short = sentences(20)
    paths = [
        *(make(f"a{size}", encoder__summary_size=size) for size in (4, 8)),
        *(make(f"b{size}", 0.1, short, encoder__summary_size=size, data__name="words") for size in (4, 8)),
    ]
    parts = compare_groups(opened(*paths), ["encoder.summary_size"], None, 100)
    assert [part.name for part in parts] == ["numbers, 60 sentences", "words, 20 sentences"]
    for part, folders in zip(parts, (paths[:2], paths[2:]), strict=True):
        assert [str(item.group.runs[0].path) for item in part.scores] == folders
        assert [item.baseline for item in part.scores] == [None, "encoder.summary_size=4"]
    assert parts[1].scores[0].score.whole.mean == pytest.approx(score(opened(paths[2])[0], range(20)))
    tables = tables_of(parts)
    assert [row[:2] for row in tables["scores"].rows] == [[part.name, size] for part in parts for size in ("4", "8")]
    # As many other sentences under the same name, as of other files, are another test set, too.
    other = make("c", 0.2, [text[::-1] for text in sentences()], digest="e" * 64)
    names = [part.name for part in compare_groups(opened(paths[0], other), [], None, 100)]
    assert names == [f"numbers, 60 sentences, digest {digit * 12}" for digit in "de"]
    # Corpora as groups: one on each test set, and nothing to compare.
    corpora = compare_groups(opened(paths[0], paths[2]), ["data.name"], None, 100)
    assert "differences" not in tables_of(corpora)


def tables_of(parts: Sequence[TestSetComparison], *, by_length: bool = False) -> dict[str, Table]:
    blocks = write_comparison(parts, {}, by_length=by_length)
    return {block.name: block for block in blocks if isinstance(block, Table)}


def notes_of(parts: Sequence[TestSetComparison], *, by_length: bool = False) -> str:
    blocks = write_comparison(parts, {"x": "x: why"}, by_length=by_length)
    return "\n".join(text for block in blocks if isinstance(block, Bullets) for text in block.texts)


def test_precisions_of_training_are_named(make: Make) -> None:
    """Seeds of two precisions are two groups; groups that differ in it beside what was asked for are told so."""
    paths = [
        make(f"{size}-{precision}", 0.9 / size, encoder__summary_size=size, trainer__precision=precision)
        for size, precision in ((4, "32-true"), (16, "bf16-mixed"))
    ]
    parts = compare_groups(opened(*paths), ["encoder.summary_size"], None, 100)
    assert "Groups differ in trainer.precision as well" in notes_of(parts)
    assert [row[-3] for row in tables_of(parts)["runs"].rows] == ["32-true", "bf16-mixed"]
    more = make("more", seed=2, encoder__summary_size=4, trainer__precision="bf16-mixed")
    (part,) = compare_groups(opened(*paths, more), ["encoder.summary_size"], None, 100)
    assert [len(item.group.runs) for item in part.scores] == [1, 1, 1]
    assert "differ in trainer.precision too" in notes_of([part])


def test_a_report_by_numbers(make: Make) -> None:
    sizes = (4, 16, 64)
    paths = [
        make(f"{size}-{seed}", 0.9 / size**0.5, seed=seed, encoder__summary_size=size)
        for size in sizes
        for seed in (1, 2)
    ]
    parts = compare_groups(opened(*paths), ["encoder.summary_size"], None, 100)
    blocks = write_comparison(parts, {}, by_length=True)
    pictures = {block.name: block.figure.axes[0] for block in blocks if isinstance(block, Picture)}
    assert list(pictures) == ["bleu", "bleu-by-length", "differences-by-length"]
    axes = pictures["bleu"]
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["4", "16", "64"]
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == [item.score.whole.mean for item in parts[0].scores]
    tables = tables_of(parts, by_length=True)
    assert list(tables) == ["scores", "differences", "runs", "bleu-by-length", "differences-by-length"]
    assert [row[-1] for row in tables["scores"].rows] == ["2", "2", "2"]
    runs = dict(zip(tables["runs"].head, tables["runs"].rows[0], strict=True))
    assert runs["converged (gain of the last fifth)"] == "yes (0.1 %)"
    assert (runs["seeds"], runs["commit"], runs["parameters"]) == ("1, 2", "c" * 12, "1,000")
    assert [row[-3] for row in tables["runs"].rows] == ["null"] * 3  # Not in these settings.
    assert len(tables["differences-by-length"].rows) == 4
    notes = notes_of(parts)
    assert "grouped by encoder.summary_size" in notes
    assert "one seed" not in notes
    assert "Left out: x: why" in notes


def test_tables_have_p_and_beside_it_that_of_holm(make: Make) -> None:
    """The values are planted, as p and Holm's p of real comparisons are often the same."""
    paths = [make(f"{size}", 0.5, encoder__summary_size=size) for size in (4, 16)]
    (part,) = compare_groups(opened(*paths), [], None, 100)
    base, other = part.scores
    assert other.difference is not None
    whole = replace(other.difference.whole, p=0.11, p_holm=0.13)
    by_length = {
        bucket: replace(row, p=0.12 + bucket, p_holm=0.14 + bucket)
        for bucket, row in other.difference.by_length.items()
    }
    difference = replace(other.difference, whole=whole, by_length=by_length)
    planted = replace(part, scores=[base, replace(other, difference=difference)])
    tables = tables_of([planted], by_length=True)
    assert [row[-2:] for row in tables["differences"].rows] == [[show_p(0.11), show_p(0.13)]]
    expected = [[show_p(0.12 + bucket), show_p(0.14 + bucket)] for bucket in by_length]
    assert [row[-2:] for row in tables["differences-by-length"].rows] == expected
    assert expected
    for name in ("differences", "differences-by-length"):
        assert tables[name].head[-2:] == ["p", "p, Holm"]


def test_a_report_by_names_of_single_seeds(make: Make) -> None:
    paths = [make(f"{name}", attention={"name": name}, trainer__x=name) for name in ("none", "_x", "$y$")]
    parts = compare_groups(opened(*paths), [], None, 100)
    blocks = write_comparison(parts, {}, by_length=False)
    (picture,) = (block for block in blocks if isinstance(block, Picture))
    assert [tick.get_text() for tick in picture.figure.axes[0].get_yticklabels()] == ["none", "_x", "$y$"]
    tables = tables_of(parts)
    assert tables["scores"].head == ["attention", "sentences", "BLEU", "these trained models", "number of seeds"]
    assert tables["settings"].rows == [["trainer.x", "none", "_x", "$y$"]]
    notes = notes_of(parts)
    assert "commits" not in notes
    assert "Every group has one seed" in notes
    assert "Groups differ in trainer.x as well" in notes


def test_headings_hold_for_any_setting(make: Make) -> None:
    """The groups of by=encoder.cell are no architectures, and a list of seeds is not their number."""
    paths = [make(f"{cell}{seed}", encoder__cell=cell, seed=seed) for cell in ("gru", "lstm") for seed in (1, 2)]
    parts = compare_groups(opened(*paths), ["encoder.cell"], None, 100)
    tables = tables_of(parts, by_length=True)
    everything = " ".join([*(cell for table in tables.values() for cell in table.head), notes_of(parts)])
    assert "architecture" not in everything
    assert "these settings, pooled" in tables["scores"].head
    assert "these settings, own spread" in tables["differences-by-length"].head
    count = tables["scores"].head.index("number of seeds")
    listed = tables["runs"].head.index("seeds")
    assert [row[count] for row in tables["scores"].rows] == ["2", "2"]
    assert [row[listed] for row in tables["runs"].rows] == ["1, 2", "1, 2"]


def test_few_sentences_are_marked_in_every_table(make: Make) -> None:
    for number, marked in ((49, "*"), (50, "")):
        folder = f"{number}/"
        paths = [make(folder + cell, 0.2, sentences(number), encoder__cell=cell) for cell in ("gru", "lstm")]
        tables = tables_of(compare_groups(opened(*paths), [], None, 100), by_length=True)
        for name in ("scores", "differences"):
            column = tables[name].head.index("sentences")
            assert {row[column] for row in tables[name].rows} == {f"{number}{marked}"}
            assert ("*: fewer than 50 sentences" in tables[name].caption) == bool(marked)
        assert tables["bleu-by-length"].head == ["group", "1-7 words*", "8+ words*", f"all{marked}"]


def test_the_notes_explain_baselines_units_and_pooling(make: Make) -> None:
    grid = [("none", "lstm", 1), ("none", "lstm", 2), ("fixed", "lstm", 1), ("fixed", "gru", 1)]
    runs = opened(
        *(make(f"{n}-{cell}-{seed}", attention={"name": n}, encoder__cell=cell, seed=seed) for n, cell, seed in grid)
    )
    by = ["attention.name", "encoder.cell"]
    notes = notes_of(compare_groups(runs, by, None, 100))
    assert "compared with attention=none, each with the one that agrees with it in encoder.cell" in notes
    assert "the value of the run named first" in notes
    assert (
        "Not compared: fixed, encoder.cell=gru. Each would need a group with attention=none and its own "
        "encoder.cell; there is only none, encoder.cell=lstm." in notes
    )
    assert "differences are in points of it. p: two-sided" in notes
    assert "A pooled interval assumes that they vary as much as those of the other groups do." in notes
    # Where every group has one seed there is no pooled interval, nor a word about it.
    assert "pooled" not in notes_of(compare_groups(runs[1:], by, None, 100))


def test_what_limits_a_comparison_is_in_the_notes(make: Make) -> None:
    first, second = (
        make("a", trainer__test_sentences=60, test_pairs=100),
        make("b", seed=2, trainer__test_sentences=60, commit="e" * 40, test_pairs=100),
    )
    parts = compare_groups(opened(first, second), [], None, 100)
    assert "yes (0.1 %)" in tables_of(parts)["runs"].rows[0]
    (Path(second) / "curves.csv").unlink()  # As with logger=none: whether it had converged is unknown.
    parts = compare_groups(opened(first, second), [], None, 100)
    assert not any("%" in cell for cell in tables_of(parts)["runs"].rows[0])
    notes = notes_of(parts)
    assert f"The runs are of 2 commits ({'c' * 12}, {'e' * 12})" in notes
    assert "only 60 of 100 sentences" in notes
    assert "only 60 of 100 sentences" in tables_of(parts)["scores"].caption
    # A limit that the whole test split is below is none.
    whole = make("c", trainer__test_sentences=60, test_pairs=60)
    assert "of 100 sentences" not in notes_of(compare_groups(opened(whole), [], None, 100))


def test_the_note_on_missing_intervals_needs_one(make: Make) -> None:
    """Sentences of fewer than four tokens have no BLEU: only where there are resamples of them alone is it said."""
    texts = [*sentences(20), *["one two"] * 20]
    paths = [make(f"{size}", 0.1, texts, encoder__summary_size=size, edges=[1, 4]) for size in (4, 8)]
    parts = compare_groups(opened(*paths), [], None, 100)
    assert note_on_undefined() not in notes_of(parts)  # Over all sentences there are intervals.
    assert note_on_undefined() in notes_of(parts, by_length=True)


@pytest.mark.slow
def test_the_command(make: Make) -> None:
    paths = [make(f"{size}-{seed}", seed=seed, encoder__summary_size=size) for size in (4, 8) for seed in (1, 2)]
    pair = run_script("pipelines/compare.py", paths[0], paths[2])
    rows = [line.split() for line in pair.stdout.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("1-7", "8+", "all")] == ["1-7", "8+", "all"]
    first, second = opened(paths[0], paths[2])
    difference = score(first, range(60)) - score(second, range(60))
    assert [float(row[2]) for row in rows if row and row[0] == "all"] == [pytest.approx(difference, abs=0.006)]
    assert "A dash" in pair.stdout  # The shorter sentences are 27.
    table = pair.stdout.split("\n\n")[1].splitlines()
    assert [row.split() for row in table] == [["setting", "4-1", "8-1"], ["encoder.summary_size", "4", "8"]]
    assert "points" in pair.stdout
    seeds = run_script("pipelines/compare.py", *paths[:2])
    assert "\nseed     1    2\n" in seeds.stdout
    Path("runs/crashed").mkdir()
    words = ("--by", "encoder.summary_size", *paths, "runs/crashed", "baseline=8", "by_length=true", "out=out")
    groups = run_script("pipelines/compare.py", *words)
    assert "| encoder.summary_size | sentences | BLEU | SD over seeds |" in groups.stdout
    assert "| 4 | encoder.summary_size=8 | " in groups.stdout
    assert "Left out: run=runs/crashed: not a run folder" in groups.stdout
    assert "written: out/report.html" in groups.stdout
    assert "pipelines/compare.py --by encoder.summary_size" in Path("out/report.md").read_text().replace("\\_", "_")
    assert {file.name for file in Path("out/figures").glob("*.svg")} == {
        *("bleu.svg", "bleu-by-length.svg", "differences-by-length.svg")
    }
    other = make("other", 0.1, sentences(20))
    for words, message in (
        ((paths[0],), "error: runs/4-1: one run folder; usage: python pipelines/compare.py RUN RUN"),
        ((paths[0], other), "error: runs/4-1 and runs/other do not translate the same sentences"),
        ((paths[0], "runs/crashed"), "error: fewer than two finished runs to compare: run=runs/crashed: not a run"),
        ((*paths, "by=x"), "error: by=x: no run has such a setting"),
    ):
        failed = run_script("pipelines/compare.py", *words)
        assert failed.returncode == 1
        assert failed.stderr.startswith(message)
        assert len(failed.stderr.splitlines()) == 1
