"""Workers that share a study: claims, heartbeats, and the trials of dead workers; without any training."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from helpers import ROOT, Killed
from hydra.core.override_parser.overrides_parser import OverridesParser
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from hourglass.errors import UserError
from hourglass.sweeps.pruning import Pruning
from hourglass.sweeps.report import draw_figures, draw_interactive, sweep_metrics, trials_to_csv, write_plots
from hourglass.sweeps.settings import SweepSettings
from hourglass.sweeps.space import drawn_overrides, search_space
from hourglass.sweeps.trials import (
    Worker,
    make_pruner,
    objective_values,
    run_trial,
    summarise_study,
    swept_trial,
    trial_folder,
)
from hourglass.training.jobs import JobFailedError, Outcome, TrialTicket

SPACE: dict[str, BaseDistribution] = {
    "optimizer.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "encoder.layers": IntDistribution(1, 3),
    "attention": CategoricalDistribution(["none", "mean"]),
}


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Worker]:
    """Return a function that makes a worker of a shared study, given changes of the default settings."""

    def worker(fixed: list[str] | None = None, **changes: Any) -> Worker:
        return Worker(settings(tmp_path, **changes), tmp_path / "sweep", SPACE, fixed or ["data=copy"])

    return worker


def settings(folder: Path, **changes: Any) -> SweepSettings:
    usual: dict[str, Any] = {
        "study_name": "test",
        "storage": f"sqlite:///{folder}/study.db",
        "n_trials": 6,
        "n_jobs": 1,
        "objective": "bleu",
        "seeds": 1,
        "over_seeds": "mean",
        "sampler": "tpe",
        "startup_trials": 2,
        "seed": 1,
        "pruner": "median",
        "heartbeat": 1,
        "params": {},
    }
    return SweepSettings(**usual | changes)


def outcome(ticket: TrialTicket, _: str | None = None) -> Outcome:
    """Return a score that depends on the trial's number only."""
    return Outcome("run", {"bleu": float(ticket.trial_id), "loss": 1.0}, parameters=10)


def finish(worker: Worker, start: Callable[[TrialTicket, str | None], Outcome] = outcome) -> None:
    while trial := worker.claim(wait=True):
        run_trial(worker.settings, trial.number, 4, start)


# ---- The budget ------------------------------------------------------------------------------------------------------


def test_a_study_ends_at_its_trials_however_often_it_is_started(sweep: Callable[..., Worker]) -> None:
    finish(sweep(n_trials=2))
    finish(sweep(n_trials=2))
    worker = sweep(n_trials=5)
    finish(worker)
    assert [trial.number for trial in worker.counted()] == [0, 1, 2, 3, 4]
    assert all(trial.state == TrialState.COMPLETE for trial in worker.counted())


@pytest.mark.slow
def test_an_interrupted_study_draws_the_same_parameters(tmp_path: Path) -> None:
    drawn = []
    for name, stops in (("one", [6]), ("other", [1, 3, 4, 6])):
        (tmp_path / name).mkdir()
        for stop in stops:
            worker = Worker(settings(tmp_path / name, n_trials=stop), tmp_path / name, SPACE, [])
            finish(worker)
        drawn.append([trial.params for trial in worker.counted()])
    assert drawn[0] == drawn[1]
    assert len({str(params) for params in drawn[0]}) == 6


@pytest.mark.more
@pytest.mark.slow
def test_workers_share_a_study_without_losing_or_repeating_a_trial(sweep: Callable[..., Worker]) -> None:
    ran: list[int] = []

    def work() -> None:
        worker = sweep(n_trials=20)
        while trial := worker.claim(wait=True):
            ran.append(trial.number)
            run_trial(worker.settings, trial.number, 4, outcome)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ran) == list(range(20))
    trials = sweep(n_trials=20).counted()
    assert [trial.number for trial in trials] == list(range(20))
    # Trials that run at the same time draw different parameters.
    assert len({trial.params["optimizer.learning_rate"] for trial in trials}) == 20


def test_a_claim_without_waiting_returns_none_at_once(sweep: Callable[..., Worker]) -> None:
    first, other = sweep(n_trials=1), sweep(n_trials=1)
    assert first.claim(wait=False) is not None
    assert other.claim(wait=False) is None


# ---- Dead workers ----------------------------------------------------------------------------------------------------

CLAIM_AND_DIE = """
import sys
from pathlib import Path
from test_trials import SPACE, settings
from hourglass.sweeps.trials import Heartbeat, Worker
import os, signal
folder = Path(sys.argv[1])
worker = Worker(settings(folder, n_trials=3), folder / "sweep", SPACE, ["data=copy"])
if sys.argv[2] == "while claiming":
    worker.storage.record_heartbeat = lambda trial_id: os.kill(os.getpid(), signal.SIGKILL)
trial = worker.claim(wait=True)
with Heartbeat(worker.storage, [trial._trial_id], 1):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["while working", pytest.param("while claiming", marks=pytest.mark.more)])
def test_the_trial_of_a_killed_worker_runs_again_in_its_folder(
    tmp_path: Path, sweep: Callable[..., Worker], moment: str
) -> None:
    path = os.pathsep.join(map(str, [ROOT / "src", ROOT / "tests", Path(__file__).parent]))
    command = [sys.executable, "-c", CLAIM_AND_DIE, str(tmp_path), moment]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert killed.returncode == -signal.SIGKILL
    worker = sweep(n_trials=3)
    finish(worker)
    everything = worker.study.trials
    assert [trial.state for trial in everything].count(TrialState.FAIL) == 1
    assert len(worker.counted()) == 3
    assert all(trial.state == TrialState.COMPLETE for trial in worker.counted())
    (again,) = (trial for trial in everything if trial_folder(trial) != f"trial-{trial.number}")
    assert trial_folder(again) == "trial-0"
    assert again.params == everything[0].params
    assert len({trial_folder(trial) for trial in worker.counted()}) == 3


@pytest.mark.more
@pytest.mark.slow
def test_a_trial_with_heartbeats_is_waited_for(sweep: Callable[..., Worker]) -> None:
    slow, other = sweep(n_trials=1), sweep(n_trials=1)
    trial = slow.claim(wait=True)
    assert trial is not None
    release, began = threading.Event(), threading.Event()

    def start(ticket: TrialTicket, parent: str | None) -> Outcome:
        began.set()
        release.wait(60)
        return outcome(ticket)

    working = threading.Thread(target=run_trial, args=[slow.settings, trial.number, 4, start])
    working.start()
    began.wait(60)
    claims: list[Any] = []
    waiting = threading.Thread(target=lambda: claims.append(other.claim(wait=True)))
    waiting.start()
    waiting.join(5)  # Longer than the three heartbeats that may be missed.
    assert waiting.is_alive()
    release.set()
    waiting.join(60)
    working.join(60)
    assert claims == [None]
    assert [trial.state for trial in other.study.trials] == [TrialState.COMPLETE]


def test_a_trial_that_another_worker_has_is_not_run(sweep: Callable[..., Worker]) -> None:
    worker = sweep()
    trial = worker.claim(wait=True)
    assert trial is not None
    worker.give_back(trial)
    worker.give_back(trial)  # Has no further effect.

    def start(*_: Any) -> Outcome:
        raise AssertionError("it ran")

    run_trial(worker.settings, trial.number, 4, start)
    again = worker.claim(wait=True)
    assert again is not None
    assert (again.number, trial_folder(again), again.params) == (1, "trial-0", trial.params)
    assert [trial.state for trial in worker.study.trials] == [TrialState.FAIL, TrialState.RUNNING]


def test_a_worker_that_dies_between_failing_a_trial_and_queueing_it_again_loses_none(
    sweep: Callable[..., Worker],
) -> None:
    worker = sweep(n_trials=1)
    trial = worker.claim(wait=True)
    assert trial is not None
    worker.storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
    finish(sweep(n_trials=1))
    assert [trial.state for trial in worker.counted()] == [TrialState.COMPLETE]


def test_a_trial_that_kills_its_workers_is_given_up(sweep: Callable[..., Worker]) -> None:
    """A worker that is stopped properly does not count."""
    worker = sweep(n_trials=1)
    for _ in range(5):
        trial = worker.claim(wait=True)
        assert trial is not None
        worker.give_back(trial)
    for _ in range(3):
        trial = worker.claim(wait=True)
        assert trial is not None
        worker.storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)  # As `fail_stale_trials` does.
    assert worker.claim(wait=True) is None
    (given_up,) = worker.counted()
    assert given_up.state == TrialState.FAIL
    assert given_up.user_attrs["error"] == "3 workers have died of it"


def test_one_study_in_two_folders_is_refused(tmp_path: Path, sweep: Callable[..., Worker]) -> None:
    sweep()
    with pytest.raises(UserError, match=rf"its runs are in .*{tmp_path}/sweep, and hydra\.sweep\.dir is .*/elsewhere"):
        Worker(settings(tmp_path), tmp_path / "elsewhere", SPACE, ["data=copy"])
    (tmp_path / "sweep").rename(tmp_path / "moved")
    Worker(settings(tmp_path), tmp_path / "moved", SPACE, ["data=copy"])


@pytest.mark.more
@pytest.mark.slow
def test_the_end_of_a_trial_waits_for_a_database_that_fails(
    tmp_path: Path, sweep: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    worker = sweep(n_trials=1)
    trial = worker.claim(wait=True)
    assert trial is not None
    database, away = tmp_path / "study.db", tmp_path / "away.db"

    def start(ticket: TrialTicket, parent: str | None) -> Outcome:
        database.rename(away)
        threading.Timer(1, lambda: away.replace(database)).start()
        return outcome(ticket)

    assert run_trial(worker.settings, trial.number, 4, start)["state"] == "COMPLETE"
    assert "the study's database does not answer" in caplog.text
    assert [trial.state for trial in sweep(n_trials=1).counted()] == [TrialState.COMPLETE]


# ---- How trials end --------------------------------------------------------------------------------------------------


def test_a_failed_job_fails_its_trial_with_its_error(sweep: Callable[..., Worker]) -> None:
    def start(ticket: TrialTicket, parent: str | None) -> Outcome:
        if ticket.trial_id == 2:
            raise JobFailedError("the loss is nan")
        if ticket.trial_id == 3:
            return Outcome("run", {"bleu": 0.5, "loss": 1.0}, parameters=10, pruned=True)
        return outcome(ticket)

    worker = sweep(n_trials=4)
    finish(worker, start)
    states = [trial.state for trial in worker.counted()]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE]
    assert worker.counted()[1].user_attrs["error"] == "the loss is nan"
    table = trials_to_csv(worker.counted(), worker.settings).splitlines()
    assert table[0] == "trial,state,bleu,attention,encoder.layers,optimizer.learning_rate,run,error"
    assert table[2].startswith("1,FAIL,,")
    assert table[2].endswith(",the loss is nan")
    summary = summarise_study(worker.study, worker.settings, worker.counted())
    assert summary.startswith("study test: 4 trials (2 complete, 1 pruned, 1 fail)\nbest: trial 3, bleu 4: ")


def test_several_objectives_make_a_pareto_front(sweep: Callable[..., Worker]) -> None:
    scores = [(3.0, 30), (2.0, 10), (1.0, 20)]  # The last is worse than the second by both objectives.

    def start(ticket: TrialTicket, parent: str | None) -> Outcome:
        assert not ticket.objective  # Optuna takes no reports with several objectives.
        bleu, parameters = scores[ticket.trial_id - 1]
        return Outcome("run", {"bleu": bleu, "loss": 1.0}, parameters)

    worker = sweep(n_trials=3, objective=["bleu", "parameters"], pruner="auto")
    finish(worker, start)
    assert sorted(trial.number for trial in worker.study.best_trials) == [0, 1]
    assert summarise_study(worker.study, worker.settings, worker.counted()).count("best: trial") == 2


# ---- Several seeds a trial -------------------------------------------------------------------------------------------

SCORES = (4.0, 1.0, 2.0)  # Of the seeds.


@pytest.mark.parametrize(
    ("objective", "how", "value"),
    [("bleu", "mean", 7 / 3), ("bleu", "quartile", 1.5), ("loss", "mean", 7 / 3), ("loss", "quartile", 3.0)],
)
def test_the_value_of_a_trial_with_several_seeds(
    sweep: Callable[..., Worker], objective: str, how: str, value: float
) -> None:
    tickets = []

    def start(ticket: TrialTicket, parent: str | None) -> Outcome:
        tickets.append((ticket.seed_index, ticket.first_step, ticket.pruner["validations"], ticket.over_seeds))
        score = SCORES[ticket.seed_index]
        return Outcome(f"run-{ticket.seed_index}", {"bleu": score, "loss": score}, parameters=10)

    worker = sweep(n_trials=1, seeds=3, over_seeds=how, objective=objective)
    finish(worker, start)
    (trial,) = worker.counted()
    assert trial.value == pytest.approx(value)
    assert tickets == [(0, 0, 12, how), (1, 4, 12, how), (2, 8, 12, how)]
    assert swept_trial(trial, worker.settings).runs == ["run-0", "run-1", "run-2"]
    assert ",run-0 run-1 run-2," in trials_to_csv([trial], worker.settings)


def test_a_trial_that_runs_again_keeps_the_seeds_that_have_ended(sweep: Callable[..., Worker]) -> None:
    started: list[int] = []

    def start(ticket: TrialTicket, parent: str | None) -> Outcome:
        started.append(ticket.seed_index)
        if started == [0, 1]:
            raise Killed
        return Outcome("run", {"bleu": SCORES[ticket.seed_index], "loss": 1.0}, parameters=10)

    worker = sweep(n_trials=1, seeds=3)
    trial = worker.claim(wait=True)
    assert trial is not None
    with pytest.raises(Killed):
        run_trial(worker.settings, trial.number, 4, start)
    worker.give_back(trial)
    finish(worker, start)
    assert started == [0, 1, 1, 2]
    assert [trial.value for trial in worker.counted()] == [pytest.approx(7 / 3)]


def test_a_trial_that_is_pruned_in_a_seed_runs_no_further_seed(sweep: Callable[..., Worker]) -> None:
    started = []

    def start(ticket: TrialTicket, parent: str | None) -> Outcome:
        started.append(ticket.seed_index)
        return Outcome("run", {"bleu": 1.0, "loss": 1.0}, parameters=10, pruned=ticket.seed_index == 1)

    worker = sweep(n_trials=1, seeds=3)
    finish(worker, start)
    assert started == [0, 1]
    assert [trial.state for trial in worker.counted()] == [TrialState.PRUNED]


@pytest.mark.slow
def test_the_pruner_compares_the_mean_of_the_seeds_so_far(sweep: Callable[..., Worker]) -> None:
    """Of two trials with the same first seed, the one with the worse second seed is pruned in it."""
    decisions = []

    def start(ticket: TrialTicket, parent: str | None) -> Outcome:
        callback = Pruning(ticket, 1)
        bad = ticket.trial_id == 3 and ticket.seed_index == 1
        for validation in (1, 2, 3, 4):
            if callback._report(validation, 0.0 if bad else 4.0 + ticket.seed_index):
                decisions.append((ticket.trial_id, ticket.seed_index, validation))
                return Outcome("run", {"bleu": 0.0, "loss": 1.0}, parameters=10, pruned=True)
        return Outcome("run", {"bleu": 4.0, "loss": 1.0}, parameters=10)

    worker = sweep(n_trials=3, seeds=2, startup_trials=1)
    finish(worker, start)
    first, _, last = worker.counted()
    # Steps 1 to 4 are those of the first seed, 5 to 8 those of the second.
    assert first.intermediate_values == {step: 4.0 if step < 5 else 4.5 for step in range(1, 9)}
    assert decisions == [(3, 1, 1)]
    assert last.intermediate_values == {1: 4.0, 2: 4.0, 3: 4.0, 4: 4.0, 5: 2.0}


@pytest.mark.more
@pytest.mark.slow
def test_plots_and_importances_need_enough_trials(tmp_path: Path, sweep: Callable[..., Worker]) -> None:
    def start(ticket: TrialTicket, parent: str | None) -> Outcome:
        params = optuna.load_study(study_name="test", storage=ticket.storage).trials[ticket.trial_id - 1].params
        return Outcome("run", {"bleu": 9.0 * (params["attention"] == "mean"), "loss": 1.0}, 10)

    worker = sweep(n_trials=1)
    finish(worker, start)
    write_plots(worker.study, worker.settings, tmp_path / "early")
    assert not list((tmp_path / "early").glob("importances*"))  # One trial has no importances.
    worker = sweep(n_trials=20)
    finish(worker, start)
    write_plots(worker.study, worker.settings, tmp_path / "late")
    plots = {path.stem for path in (tmp_path / "late").glob("*.png")}
    assert {"history-bleu", "slice-bleu", "parallel-bleu", "importances-bleu", "timeline"} <= plots
    page = (tmp_path / "late" / "plots.html").read_text()
    assert set(re.findall("<h2>(.*)</h2>", page)) == plots
    # Nothing is loaded from elsewhere, and the library is there once.
    assert not re.search(r"<(script|link|img)[^>]*\b(src|href)=", page)
    assert len(page) < 6_000_000
    metrics = sweep_metrics(worker.study, worker.settings, worker.counted())
    shares = {name: value for name, value in metrics.items() if name.startswith("importance/")}
    assert max(shares, key=lambda name: shares[name]) == "importance/bleu/attention"
    assert metrics["best/bleu"] == 9
    assert metrics["trials/complete"] == 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective", [["bleu"], pytest.param(["loss"], marks=pytest.mark.more), ["bleu", "parameters"]]
)
def test_the_best_trials_have_the_darkest_colour(objective: list[Any]) -> None:
    chosen = settings(Path(), objective=objective, pruner="auto")
    study = optuna.create_study(directions=chosen.directions)
    scores = (1.0, 3.0, 2.0)
    for number, score in enumerate(scores):
        study.add_trial(
            optuna.trial.create_trial(
                values=[score] * len(objective), params={"x": number / 4}, distributions={"x": FloatDistribution(0, 1)}
            )
        )
    figures = draw_figures(study, chosen)
    interactive = draw_interactive(study, chosen)
    for name, direction in zip(objective, chosen.directions, strict=True):
        best = 3.0 if direction == optuna.study.StudyDirection.MAXIMIZE else 1.0
        lines: Any = figures[f"parallel-{name}"].axes[0].collections[0]
        lines.update_scalarmappable()
        brightness = lines.get_colors()[:, :3].sum(1)
        assert lines.get_array()[brightness.argmin()] == best
        assert brightness.max() < 2.5  # White has 3.
        traces = [trace for trace in interactive[f"parallel-{name}"].data if trace.line.color is not None]
        height = {sum(to_rgb(trace.line.color)): trace.y[0] for trace in traces}
        assert len(traces) == 3
        assert height[min(height)] == (max if best == 3 else min)(height.values())
        assert max(height) < 2.5
        assert all(axes.get_facecolor() == (1, 1, 1, 1) for axes in figures[f"history-{name}"].axes)
    pyplot.close("all")


def test_objective_values() -> None:
    full = Outcome("run", {"bleu": 3.0, "loss": 1.5}, 10, sentences_per_second=7.0)
    assert objective_values(full, ["bleu", "loss", "parameters", "sentences_per_second"]) == [3.0, 1.5, 10.0, 7.0]
    with pytest.raises(JobFailedError, match="nan is not a finite score"):
        objective_values(Outcome("run", {"bleu": float("nan"), "loss": 1.0}, 10), ["bleu"])


@pytest.mark.parametrize("name", ["median", "hyperband", "none"])
def test_every_pruner_decides(name: str) -> None:
    study = optuna.create_study(direction="maximize", pruner=make_pruner(name, 1, 9))
    decisions = []
    for score in (5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0):
        trial = study.ask()
        pruned = False
        for step in range(1, 10):
            trial.report(score, step)
            pruned = pruned or trial.should_prune()
        decisions.append(pruned)
        study.tell(trial, score)
    assert not any(decisions[:6])
    assert any(decisions[6:]) == (name != "none")


# ---- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"objective": ["bleu", "parameters"], "pruner": "median"},
            r"a pruner needs the main metric or loss as the only objective: set .*pruner=auto",
        ),
        ({"objective": ["bleu", "bleu"], "pruner": "none"}, "bleu is given twice"),
        ({"storage": "postgresql://me:secret@host/db"}, r"has a password.*OPTUNA_STORAGE"),
        ({"storage": "postgresql://host/db?user=me&password=secret"}, r"has a password.*OPTUNA_STORAGE"),
        ({"storage": "postgresql://me:pa/secret@host/db"}, "percent-encode"),
        ({"storage": "postgresql://me:top@secret@host/db"}, "percent-encode"),
        ({"storage": None}, r"storage: not set, and neither is OPTUNA_STORAGE"),
    ],
)
def test_contradictions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    with pytest.raises(UserError, match=message) as refused:
        settings(tmp_path, **changes)
    assert "secret" not in str(refused.value)


def test_the_password_of_a_storage_comes_from_the_environment_and_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql://me:secret@127.0.0.1:1/nowhere")
    with pytest.raises(UserError, match=r"hydra\.sweeper\.storage: cannot be opened") as refused:
        Worker(settings(tmp_path, storage=None), tmp_path / "sweep", SPACE, [])
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("fixed", "changes", "differs"),
    [
        (["data=numbers"], {}, "command line"),
        (["data=copy"], {"objective": "loss"}, "objective"),
        (["data=copy"], {"seed": 2}, "seed"),
        (["data=copy"], {"seeds": 2}, "seeds"),
        (["data=copy"], {"heartbeat": 2}, "heartbeat"),
    ],
)
def test_a_study_keeps_its_meaning(
    sweep: Callable[..., Worker], fixed: list[str], changes: dict[str, Any], differs: str
) -> None:
    sweep(["data=copy"])
    sweep(["data=copy", "logger=csv", "cache=elsewhere", "hydra/launcher=joblib"], n_trials=9, n_jobs=2)
    with pytest.raises(UserError, match=rf"begun with other settings \({differs}\): .*name another study"):
        sweep(fixed, **changes)


# ---- The search space ------------------------------------------------------------------------------------------------


def parse(params: list[str], arguments: list[str]) -> tuple[dict[str, BaseDistribution], list[str]]:
    parser = OverridesParser.create()
    return search_space(parser.parse_overrides(params), parser.parse_overrides(arguments))


@pytest.mark.parametrize(
    ("word", "distribution"),
    [
        ("a.b=interval(1,2)", FloatDistribution(1, 2 - 2**-52)),
        ("a.b=tag(log, interval(0.001, 1))", FloatDistribution(0.001, 1 - 2**-53, log=True)),
        ("a.b=int(interval(1, 9))", IntDistribution(1, 8)),
        ("a.b=tag(int, log, interval(1, 9))", IntDistribution(1, 8, log=True)),
        ("a.b=tag(int, interval(0.5, 2.5))", IntDistribution(1, 2)),
        ("a.b=tag(log, range(1,65))", IntDistribution(1, 64, log=True)),
        ("a.b=choice(x,y)", CategoricalDistribution(["x", "y"])),
        ("a.b=x,y", CategoricalDistribution(["x", "y"])),
        ("a.b=choice(true,2,0.5)", CategoricalDistribution(["True", "2", "0.5"])),
    ],
)
def test_the_search_space_in_hydras_grammar(word: str, distribution: BaseDistribution) -> None:
    assert parse([word], []) == ({"a.b": distribution}, [])
    assert parse([], [word]) == ({"a.b": distribution}, [])


@pytest.mark.parametrize(
    "words",
    [
        "range(1,4)",
        "range(64,257,64)",
        "range(64,256,64)",
        "range(1,8,3)",
        "range(3,0,-1)",
        "range(5)",
        "sort(range(1,6,2),reverse=true)",
        "shuffle(range(1,4))",
        "int(range(0.5,3.5))",
        "int(range(0.5,2,0.5))",
        "float(range(1,4))",
        "range(0.1,0.3,0.1)",
        "range(0.1,0.31,0.1)",
        "range(0.0,0.5,0.05)",
        "range(1,2,0.25)",
        "range(0.3,0.0,-0.1)",
    ],
)
def test_a_search_tries_the_numbers_of_a_range_that_hydra_lists(words: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"a={words}"])
    listed = {f"a={value}" for value in override.sweep_iterator()}
    space, _ = parse([f"a={words}"], [])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    tried = {tuple(drawn_overrides(study.ask(dict(space)).params, space)) for _ in range(150)}
    assert {word for (word,) in tried} == listed


def test_a_search_leaves_the_end_of_an_interval_out() -> None:
    space, _ = parse(["a=tag(int, interval(0, 3))", "b=interval(0, 0.000001)"], [])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = [study.ask(dict(space)).params for _ in range(100)]
    assert {params["a"] for params in drawn} == {0, 1, 2}
    assert max(params["b"] for params in drawn) < 0.000001


def test_the_command_line_comes_before_the_file() -> None:
    space, fixed = parse(["a=choice(x,y)", "b=range(1,4)"], ["a=z", "c=1", "d=1,2"])
    assert set(space) == {"b", "d"}
    assert fixed == ["a=z", "c=1"]


def test_the_last_of_two_words_for_a_key_counts() -> None:
    assert parse(["a=range(1,4)"], ["b=1,2", "b=3", "++a=2", "~c", "~d=1"]) == ({}, ["b=3", "++a=2", "~c", "~d=1"])


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("range(3,3)", "the range is empty"),
        ("range(0.3,0.1,0.1)", "the range is empty"),
        ("range(1,3,0)", "the step of a range cannot be 0"),
        ("interval(1,1)", "no numbers to choose from"),
        ("interval(2,1)", "no numbers to choose from"),
        ("interval(1,inf)", "has no end"),
        ("tag(log, interval(0, 1))", "low"),
        ("tag(log, choice(1,2))", "a choice has no scale"),
        ("tag(log, range(0.1,0.5,0.1))", "no logarithmic scale"),
        ("tag(logarithmic, interval(1,2))", "the tag logarithmic means nothing here"),
        ("int(range(0.5,4,1.5))", "not evenly spaced"),
    ],
)
def test_a_space_without_values_or_with_a_meaningless_tag_is_refused(word: str, reason: str) -> None:
    with pytest.raises(UserError, match=re.escape("hydra.sweeper.params: a: ") + f".*{reason}"):
        parse([f"a={word}"], [])
