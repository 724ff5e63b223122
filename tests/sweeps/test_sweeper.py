"""Sweeps by the command, python src/train.py -m ..., with each job in a process of its own."""

import csv
import json
import os
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import psutil
import pytest
import sqlalchemy
import yaml
from helpers import ROOT, SMALL, empty_store, hear_ctrl_c, quick_python, run_script, wait_for, wait_until
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState

from hourglass.config.compose import plain_values
from hourglass.runs.curves import read_curves
from hourglass.sweeps.combinations import CombinationSweeper
from hourglass.system.files import read_json
from hourglass.tracking.settings import check_logger
from hourglass.training.jobs import JobFailedError, Outcome, start_job

SWEEP = (
    "sweep=optuna",
    "hydra.sweeper.heartbeat=1",
    "hydra.sweeper.objective=loss",
    "hydra.sweeper.sampler=random",
    "hydra.sweeper.startup_trials=1",
    "trainer.select=loss",
    "encoder.layers=range(1,3)",
    "attention=choice(none,luong_general)",
)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts src/train.py with SMALL and further words in an empty folder, in a fork or not."""

    def begin(*words: str, small: bool = True, fork: bool = True) -> subprocess.Popen[str]:
        command = [
            quick_python() if fork else sys.executable,
            str(ROOT / "src" / "train.py"),
            *(SMALL if small else ()),
            *words,
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_ctrl_c,  # noqa: PLW1509 (it only sets a signal)
        )

    return begin


def end(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    output, errors = process.communicate(timeout=600)
    assert process.returncode == status, errors[-3000:]
    return output, errors


def study(folder: Path, storage: str | None = None) -> optuna.Study:
    return optuna.load_study(study_name="hourglass", storage=storage or f"sqlite:///{folder}/sweeps.db")


def trained_to_the_end(run: Path) -> int:
    """Return the last step of a run's curves, after checking that no step is repeated or missing."""
    steps = [step for step, name, _ in read_curves(run / "curves.csv") if name == "train/loss"]
    assert steps == sorted(set(steps))
    assert set(range(steps[0], steps[-1] + 1)) == set(steps)
    return steps[-1]


# ---- Plain sweeps ----------------------------------------------------------------------------------------------------


@pytest.mark.more
@pytest.mark.slow
def test_a_job_that_fails_leaves_the_others_alone(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    # luong_dot needs equal sizes. Each job is a new interpreter here, and a fork in the tests below.
    words = ("-m", "attention=luong_dot,none", "decoder.hidden_size=20", "trainer.test=false")
    output, errors = end(start(*words, fork=False), 1)
    assert output.count("run: ") == 1
    (run,) = (tmp_path / "runs").iterdir()
    *_, head, failed, complete, _, error = output.splitlines()
    assert head.split()[:6] == ["job", "attention", "state", "dev", "BLEU", "dev"]
    assert failed.split() == ["0", "luong_dot", "failed"]
    assert complete.split()[:3] == ["1", "none", "complete"]
    assert complete.split()[-1] == f"runs/{run.name}"
    assert error.startswith("job 0 failed: attention=luong_dot")
    assert "decoder.hidden_size=20 is not encoder.hidden_size=16" in error
    assert errors.splitlines()[-1] == "error: 1 of 2 jobs failed: see above"
    assert "Traceback" not in errors
    table = list(csv.reader((tmp_path / "multirun" / "jobs.csv").open()))
    assert [row[:3] for row in table] == [["job", "attention", "state"], failed.split(), complete.split()[:3]]


def tracked(folder: Path) -> tuple[MlflowClient, Run, dict[str, Run]]:
    """Return the parent run of a sweep's jobs in MLflow, and its children by the numbers of their jobs."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("hourglass")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert {run.data.tags["mlflow.parentRunId"] for run in runs if run is not parent} == {parent.info.run_id}
    return client, parent, {run.data.tags["job"]: run for run in runs if run is not parent}


@pytest.mark.slow
def test_the_jobs_of_one_command_are_the_children_of_one_run(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    empty_store(tmp_path)
    words = ("-m", *SMALL, "attention=none,luong_dot", "trainer.test=false", "logger=mlflow", "logger.system_metrics=0")
    end(start(*words, "decoder.hidden_size=16,20", small=False), 1)  # luong_dot needs equal sizes: one job fails.
    client, parent, children = tracked(tmp_path)
    assert parent.info.run_name == "sweep over decoder.hidden_size, attention"
    assert parent.info.status == "FAILED"
    assert parent.data.metrics == {"jobs/complete": 3, "jobs/failed": 1}
    assert "decoder.hidden_size=16,20" in parent.data.tags["mlflow.note.content"]
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["jobs.csv"]
    trained = {(run.data.params["attention.name"], run.data.params["decoder.hidden_size"]) for run in children.values()}
    assert trained == {("none", "16"), ("none", "20"), ("luong_dot", "16")}
    assert children.keys() < {"0", "1", "2", "3"}
    assert {run.info.status for run in children.values()} == {"FINISHED"}


@pytest.mark.more
@pytest.mark.slow
def test_sigterm_ends_a_plain_sweep_with_the_jobs_that_have_ended(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    empty_store(tmp_path)
    words = ["-m", *SMALL, "attention=none,mean,luong_dot", "trainer.test=false", "trainer.target_tokens=8000"]
    sweep = start(*words, "logger=mlflow", "logger.system_metrics=0", "trainer.checkpoint_every=1", small=False)

    def second_trains() -> bool:
        ended, begun = (list(tmp_path.glob(f"runs/*/{name}")) for name in ("metrics.json", "checkpoints/last.ckpt"))
        return (len(ended), len(begun)) == (1, 2)

    wait_for(second_trains, sweep, "a checkpoint of the second job")
    sweep.send_signal(signal.SIGTERM)
    output, errors = end(sweep, 143)
    assert output.splitlines()[-1].split()[:3] == ["0", "none", "complete"]
    assert errors.splitlines()[-1] == "stopped"
    assert "Traceback" not in errors
    _, parent, children = tracked(tmp_path)
    assert parent.info.status == "KILLED"
    assert {number: run.info.status for number, run in children.items()} == {"0": "FINISHED", "1": "KILLED"}


def test_jobs_that_are_not_in_one_place_in_mlflow_have_no_parent_there() -> None:
    sweeper = CombinationSweeper(max_batch_size=None, params=None)
    parser = OverridesParser.create()
    with initialize_config_dir(str(ROOT / "conf")):
        for words in (["seed=1,2"], ["seed=1,2", "logger=csv"], ["seed=1,2", "logger.experiment=a,b"]):
            plain = [word for word in words if "," not in word]
            sweeper.config = compose("config", overrides=plain)
            logger = sweeper._shared_logger(parser.parse_overrides(words))
            assert logger == (check_logger(plain_values(sweeper.config.logger)) if len(words) == 1 else None)


def test_sweep_without_m_is_refused_with_the_right_command(tmp_path: Path) -> None:
    refused = run_script("src/train.py", *SMALL, "sweep=optuna", cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr == "error: sweep=optuna: needs -m: python src/train.py -m sweep=optuna ...\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hydra.sweeper.n_trials=none"], "error: hydra.sweeper.n_trials=none: "),
        pytest.param(
            ["hydra.sweeper.trials=2"], "error: hydra.sweeper.trials: no such setting", marks=pytest.mark.more
        ),
        pytest.param(
            ["attention=choice(luong_genral)"],
            "error: attention=luong_genral: no such choice: did you mean luong_general?",
            marks=pytest.mark.more,
        ),
        pytest.param(
            ["hydra.sweeper.n_jobs=2"],
            "error: hydra.sweeper.n_jobs=2: the basic launcher runs one job at a time",
            marks=pytest.mark.more,
        ),
        pytest.param(["hydra.sweeper.objective=loss"], "set trainer.select=loss (it is bleu)", marks=pytest.mark.more),
        (
            ["metrics=choice(translation,exact)"],
            "error: hydra.sweeper.objective=bleu: trials with optimizer.learning_rate=",
        ),
        pytest.param(
            ["run_dir=here"],
            "error: run_dir=here: in a sweep every job gets a folder of its own",
            marks=pytest.mark.more,
        ),
    ],
)
def test_a_mistake_ends_a_sweep_before_its_first_trial(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], words: list[str], message: str
) -> None:
    _, errors = end(start("-m", "sweep=optuna", *words), 1)
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not list(tmp_path.rglob("trial-*"))


# ---- What a job has from its parent ----------------------------------------------------------------------------------

PRINT_CONTEXT = f"""
import json, sys
import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from hourglass.config.command_line import config_words

@hydra.main(config_path={str(ROOT / "conf")!r}, config_name="config", execution_whitelist=())
def main(config):
    words = [*config_words(HydraConfig.get()), *HydraConfig.get().overrides.task]
    print(json.dumps([words, OmegaConf.to_container(config)]))

main()
"""


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--config-dir", "mine", "data=my_copy"],
        ["-cd", "mine", "-cn", "all", "seed=9"],
        ["--config-path", "whole", "--config-name=own"],
        ["hydra.searchpath=[file://mine]", "data=my_copy"],
    ],
)
def test_a_job_reads_the_config_files_of_its_parent(tmp_path: Path, words: list[str]) -> None:
    own_configs(tmp_path)
    script = tmp_path / "context.py"
    script.write_text(PRINT_CONTEXT)
    first = run_script(str(script), *[word.replace("whole", f"{tmp_path}/whole") for word in words], cwd=tmp_path)
    context, settings = json.loads(first.stdout)
    second = run_script(str(script), *context, cwd=tmp_path)
    assert json.loads(second.stdout)[1] == settings
    assert (settings.get("data", {}).get("train_pairs") == 123) == bool(words)


def own_configs(folder: Path) -> None:
    """Write config files outside of conf/: a corpus, a config that searches over it, and one that stands alone."""
    (folder / "mine" / "data").mkdir(parents=True)
    text = (ROOT / "conf" / "data" / "copy.yaml").read_text()
    (folder / "mine" / "data" / "my_copy.yaml").write_text(re.sub("train_pairs: .*", "train_pairs: 123", text))
    (folder / "mine" / "all.yaml").write_text(
        "defaults: [/config, {override /data: my_copy}, {override /sweep: optuna}, _self_]\n"
        "hydra: {sweeper: {n_trials: 2, heartbeat: 1, params: {encoder.layers: 1, encoder.cell: lstm, "
        "optimizer.learning_rate: 0.002, attention: 'choice(none,mean)'}}}\n"
    )
    (folder / "whole").mkdir()
    (folder / "whole" / "own.yaml").write_text("data: {train_pairs: 123}\n")


@pytest.mark.more
@pytest.mark.slow
def test_a_study_of_config_files_outside_of_the_project(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    own_configs(tmp_path)
    small = [word for word in SMALL if not word.startswith(("data=", "data.train_pairs"))]
    end(start("--config-dir", "mine", "-cn", "all", "-m", *small, "trainer.test=false", small=False))
    trials = study(tmp_path).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    config = yaml.safe_load(Path(trials[0].user_attrs["run"], "config.yaml").read_text())
    assert (config["data"]["train_pairs"], config["optimizer"]["learning_rate"]) == (123, 0.002)


@pytest.mark.parametrize("flags", [["-X", "utf8=1", "-W", "ignore::ImportWarning"], []])
def test_a_job_has_the_flags_of_its_parents_python(tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "job.py").write_text("import sys\nprint(sys.flags.utf8_mode, sys.warnoptions)\n")
    code = f"from hourglass.training.jobs import start_job; start_job({str(tmp_path / 'job.py')!r}, [])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    parent = subprocess.run(
        [sys.executable, *flags, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert parent.stdout == ("1 ['ignore::ImportWarning']\n" if flags else "0 []\n")


# ---- A job and its parent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"killed by SIGKILL \(out of memory\?\)"),
        ("raise SystemExit(7)", "exit status 7"),
    ],
)
def test_the_end_of_a_job_is_described(tmp_path: Path, code: str, message: str) -> None:
    script = tmp_path / "job.py"
    script.write_text(code)
    with pytest.raises(JobFailedError, match=message):
        start_job(str(script), [])


def test_a_job_that_crashes_after_its_answer_has_succeeded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        "import os\nfrom hourglass.training.jobs import Outcome, answering, read_ticket\n"
        "with answering(read_ticket()) as answer:\n    answer(Outcome('here', {'bleu': 1.0, 'loss': 2.0}, 3))\n"
        "os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    assert start_job(str(script), []) == Outcome("here", {"bleu": 1.0, "loss": 2.0}, 3)
    assert caplog.messages == ["here: its process was killed by SIGABRT, after the run was complete"]


def test_a_job_dies_with_its_parent(tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text(
        "import os, sys, time\nfrom pathlib import Path\n"
        "from hourglass.training.jobs import read_ticket\nread_ticket()\n"
        "Path(sys.argv[1]).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    )
    code = f"from hourglass.training.jobs import start_job; start_job({str(job)!r}, [{str(tmp_path / 'pid')!r}])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment)
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "", parent, "the job")
    pid = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    try:
        wait_until(lambda: not alive(pid), "the end of the job of a parent that is killed", limit=60)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        raise


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---- Sweeps by Optuna ------------------------------------------------------------------------------------------------


@pytest.mark.more
@pytest.mark.slow
def test_a_sweep_prunes_outlives_a_diverged_run_and_ends_at_its_trials(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    words = ["-m", *SWEEP, "optimizer.learning_rate=choice(0.003,0.000000001,1e30)", "hydra.sweeper.n_trials=4"]
    command = [*words, *SMALL, "hydra.sweeper.seed=7", "logger=mlflow", "logger.system_metrics=0"]
    empty_store(tmp_path)
    output, _ = end(start(*command, small=False))
    trials = study(tmp_path).trials
    states = {trial.number: trial.state for trial in trials}
    assert len(trials) == 4
    assert set(states.values()) == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    for trial in trials:
        diverges = float(trial.params["optimizer.learning_rate"]) == 1e30
        assert (trial.state == TrialState.FAIL) == diverges
        run = tmp_path / "sweeps" / "hourglass" / f"trial-{trial.number}"
        if diverges:
            assert "the run has diverged" in trial.user_attrs["error"]
            continue
        metrics = read_json(run / "metrics.json")
        assert metrics["pruned"] == (trial.state == TrialState.PRUNED)
        assert ("test" in metrics) == (trial.state == TrialState.COMPLETE)
        # The values in the study are those of the run's curves.
        curve = [value for _, name, value in read_curves(run / "curves.csv") if name == "dev/loss"]
        assert list(trial.intermediate_values.values()) == pytest.approx(curve)
        assert len(curve) == 3 if trial.state == TrialState.COMPLETE else len(curve) < 3
        if trial.state == TrialState.COMPLETE:
            assert trial.value == pytest.approx(min(curve))
    assert "best: trial" in output
    rows = output[output.rindex("\ntrial  ") + 1 :].splitlines()[1:5]
    names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "3"]
    assert all(names[states[number]] in row.split() for number, row in enumerate(rows))
    # In MLflow: the parent run with its plots, and a child run for each trial.
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("hourglass")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.info.run_name == "sweep hourglass")
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {child.data.tags["trial"] for child in children} == set(map(str, states))
    assert len(runs) == 5
    assert parent.data.metrics["trials/pruned"] == sum(state == TrialState.PRUNED for state in states.values())
    plots = {Path(file.path).stem for file in client.list_artifacts(parent.info.run_id, "plots")}
    assert {"history-loss", "intermediate-values", "timeline"} <= plots
    # The same command again has nothing to do.
    end(start(*command, small=False))
    assert len(study(tmp_path).trials) == 4
    assert len(client.search_runs([experiment.experiment_id])) == 5


@pytest.mark.more
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_same_command_resumes_a_stopped_sweep(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    words = ["-m", *SWEEP, "hydra.sweeper.pruner=none", "hydra.sweeper.n_trials=3", "trainer.test=false"]
    words += [*SMALL, "trainer.target_tokens=8000", "trainer.checkpoint_every=1"]
    sweep = start(*words, small=False)
    running = tmp_path / "sweeps" / "hourglass" / "trial-1"
    wait_for((running / "checkpoints" / "last.ckpt").exists, sweep, "a checkpoint")
    sweep.send_signal(number)
    _, errors = sweep.communicate()
    if number == signal.SIGINT:
        assert sweep.returncode == 130
        assert errors.splitlines()[-1] == "stopped; to continue, run the same command"
        assert "Traceback" not in errors
    end(start(*words, small=False))
    trials = study(tmp_path).trials
    states = [trial.state for trial in trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, *[TrialState.COMPLETE] * 2]
    (again,) = (trial for trial in trials if trial.system_attrs.get("failed_trial") == 1)
    assert again.params == trials[1].params
    assert again.user_attrs["run"] == str(running)
    folders = sorted(running.parent.glob("trial-*"))
    assert len(folders) == 3
    assert len({trained_to_the_end(folder) for folder in folders}) == 1
    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in folders]
    assert len({str((item["optimizer"], item["encoder"], item["attention"])) for item in configs}) > 1


@pytest.mark.more
@pytest.mark.slow
def test_a_trial_of_two_seeds_is_resumed_in_its_second(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    words = ["-m", "sweep=optuna", "hydra.sweeper.seeds=2", "hydra.sweeper.n_trials=1", "hydra.sweeper.heartbeat=1"]
    words += ["encoder.layers=1", "encoder.cell=lstm", "optimizer.learning_rate=0.003", "attention=choice(none)"]
    words += [*SMALL, "trainer.checkpoint_every=1", "seed=7"]
    sweep = start(*words, small=False)
    first, second = (tmp_path / "sweeps" / "hourglass" / f"trial-0-seed-{seed}" for seed in (7, 8))
    wait_for((second / "checkpoints" / "last.ckpt").exists, sweep, "a checkpoint of the second seed")
    written = (first / "metrics.json").stat().st_mtime_ns
    sweep.send_signal(signal.SIGKILL)
    sweep.communicate()
    output, _ = end(start(*words, small=False))
    assert (first / "metrics.json").stat().st_mtime_ns == written
    assert trained_to_the_end(first) == trained_to_the_end(second)
    scores = [read_json(run / "metrics.json") for run in (first, second)]
    assert [score["seed"] for score in scores] == [7, 8]
    assert [path.name for path in first.parent.glob("trial-*/") if not any(path.iterdir())] == []
    (*_, trial) = study(tmp_path).trials
    assert trial.value == pytest.approx(sum(score["dev"]["bleu"] for score in scores) / 2)
    assert sorted(trial.intermediate_values) == [1, 2, 3, 4, 5, 6]
    row = next(line for line in output.splitlines() if line.split()[:3] == ["1", "none", "complete"])
    assert row.endswith("2 runs")
    assert f"compare.py {second} {first}" in output or f"compare.py {first} {second}" in output


@pytest.mark.more
@pytest.mark.slow
def test_two_shells_share_a_study(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    words = ["-m", *SWEEP, "hydra.sweeper.n_trials=4", "trainer.test=false"]
    shells = [start(*words), start(*words)]
    ended = [end(shell) for shell in shells]
    trials = study(tmp_path).trials
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials), "".join(
        map("".join, ended)
    )
    assert len({trial.user_attrs["worker"] for trial in trials}) == 2
    assert all("study hourglass: 4 trials" in output for output, _ in ended)
    with sqlite3.connect(tmp_path / "sweeps.db") as database:
        assert database.execute("select count(*) from studies").fetchone() == (1,)


@pytest.mark.slow
def test_workers_share_a_study_and_mlflow_in_postgresql(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", postgres)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres.replace("/postgres", "/mlflow"))
    with sqlalchemy.create_engine(postgres, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(sqlalchemy.text("create database mlflow"))
    shared = ["hydra.sweeper.storage=null", "logger=mlflow", "logger.tracking_uri=null", "logger.system_metrics=0"]
    words = ["-m", *SWEEP, *shared, "hydra.sweeper.n_trials=4", "trainer.test=false"]
    shells = [start(*words), start(*words)]
    ended = [end(shell) for shell in shells]
    trials = study(tmp_path, postgres).trials
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials), "".join(
        map("".join, ended)
    )
    assert len({trial.user_attrs["worker"] for trial in trials}) == 2
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("hourglass")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == [
        *(f"hourglass-trial-{number}" for number in range(4)),
        "sweep hourglass",
    ]
    # The password is in the environment only.
    assert not any("top-secret" in text for texts in ended for text in texts)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"top-secret" not in file.read_bytes(), file


@pytest.mark.more
@pytest.mark.slow
def test_a_job_killed_with_its_launchers_process_costs_no_other(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """submitit raises for a whole batch if one job is killed, as SLURM does when time or memory runs out."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = ["-m", *SWEEP, "hydra/launcher=submitit_local", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=2"]
    words += ["hydra.sweeper.pruner=none", "trainer.test=false", *SMALL, "trainer.target_tokens=20000"]
    sweep = start(*words, "trainer.checkpoint_every=1", small=False)
    running = tmp_path / "sweeps" / "hourglass" / "trial-0"
    wait_for((running / "checkpoints" / "last.ckpt").exists, sweep, "a checkpoint")
    (child,) = (
        process
        for process in psutil.process_iter(["cmdline"])
        if any(word.replace("'", "") == f"run_dir={running}" for word in process.info["cmdline"] or [])
    )
    child.parent().kill()
    _, errors = end(sweep)
    assert "hydra/launcher=submitit_local: a job is lost" in errors
    assert "Traceback" not in errors
    trials = study(tmp_path).trials
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert trials[2].user_attrs["run"] == str(running)
    for number in range(2):
        trained_to_the_end(running.parent / f"trial-{number}")


@pytest.fixture
def ray_cluster(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a Ray cluster on this machine, in another folder than the test's, and return its address."""
    folder = tempfile.mkdtemp(prefix="hg-ray-")  # A short name: the folder holds Ray's sockets.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    log = tmp_path_factory.mktemp("ray") / "log"
    words = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=2", "--port=0"]
    words += ["--include-dashboard=false", "--disable-usage-stats", "--temp-dir", folder]
    with log.open("w") as stream:
        head = subprocess.Popen(words, cwd=folder, stdout=stream, stderr=stream, start_new_session=True)
    try:
        wait_for(lambda: "--address=" in log.read_text(), head, "the address of Ray's head")
        (address,) = set(re.findall(r"--address='([^']+)'", log.read_text()))
        yield address
    finally:
        head.terminate()
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.more
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_launchers_that_run_jobs_at_once(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], launcher: str, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    words = [f"hydra/launcher={launcher}", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=2"]
    if launcher == "ray":
        words.append(f"hydra.launcher.ray.init.address='{request.getfixturevalue('ray_cluster')}'")
    end(start("-m", *SWEEP, *words, "hydra.sweeper.pruner=none", "trainer.test=false"))
    assert [trial.state for trial in study(tmp_path).trials] == [TrialState.COMPLETE] * 2
    for number in range(2):
        trained_to_the_end(tmp_path / "sweeps" / "hourglass" / f"trial-{number}")
