"""dvc repro on a tiny ablation: all stages, then none, then only those that a change affects."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, quick_python

from hourglass.training.resuming import DECIDING

pytest.importorskip("dvc", reason="the pipeline needs DVC: pip install -e '.[pipeline]'")

CHANGES = {
    "conf/data/numbers.yaml": {"train_pairs": 600, "dev_pairs": 24, "test_pairs": 60, "vocabulary_size": 80},
    "conf/data/kjv_web.yaml": {"vocabulary_size": 1000},
    "conf/attention/bahdanau.yaml": {"size": 24},
    "conf/encoder/rnn.yaml": {"hidden_size": 32, "embedding_size": 16, "summary_size": 16},
    "conf/encoder/blind.yaml": {"embedding_size": 16, "summary_size": 16},
    "conf/decoder/rnn.yaml": {"hidden_size": 32, "embedding_size": 16, "readout_size": 16},
    "conf/search/beam.yaml": {"beam": 1, "output_most": 8},
    "conf/trainer/cpu.yaml": {"dev_sentences": 10, "log_every": 1, "checkpoint_every": 2},
}


def shrink(project: Path) -> None:
    """Shrink the default ablation to seconds: the same stages and files, fewer and smaller runs."""
    for name, values in CHANGES.items():
        lines = (project / name).read_text().splitlines()
        for key, value in values.items():
            (at,) = (i for i, line in enumerate(lines) if line.startswith(f"{key}:"))
            lines[at] = f"{key}: {value}"
        (project / name).write_text("\n".join([*lines, ""]))
    file = project / "conf" / "ablation" / "default.yaml"
    content = yaml.safe_load(file.read_text())
    content |= {"tune": {"learning_rates": [0.002], "reverse_source": []}, "examples": 2}
    budget = {"target_tokens": 5000, "tune_tokens": 2000}
    content["numbers"] |= {"attentions": ["none", "luong_general"], "seeds": [1, 2], **budget}
    content["kjv_web"] |= {"attentions": ["none", "bahdanau"], "seeds": [1], **budget}
    file.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the project, shrunk."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("conf", "src", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    shrink(folder)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    dvc(folder, "init", "-q")
    return folder


def dvc(project: Path, *words: str) -> str:
    """Run a DVC command in the project, with the project's own code, and return its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}
    # The stages' python runs them in forks.
    environment["PATH"] = f"{Path(quick_python()).parent}:{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def stages_run(printed: str) -> list[str]:
    return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]


@pytest.mark.slow
def test_the_whole_pipeline_and_what_a_change_touches(project: Path) -> None:
    first = stages_run(dvc(project, "repro"))
    assert len(first) == len(set(first)) == 2 + (2 + 4 + 4) + (2 + 2 + 2) + 2 + (2 + 2) + 2
    assert "Watch it translate: kjv_web" in (project / "results" / "kjv_web" / "explorer.html").read_text()
    for name in ("report.html", "report.md", "numbers/metrics.json", "kjv_web/bleu_by_length.csv", "figures", "tables"):
        assert (project / "results" / name).exists(), name
    report = (project / "results" / "report.html").read_text()
    assert "luong_general" in report
    assert "bits through the neck" in report
    assert "bahdanau" in report

    # The second time, no stage runs.
    assert "Data and pipelines are up to date" in dvc(project, "repro")

    # A change of a variant's own file affects that variant and the stages after it.
    file = project / "conf" / "attention" / "bahdanau.yaml"
    before = file.read_text()
    file.write_text(before.replace("size: 24", "size: 16"))
    concerned = {
        line.strip(" :")
        for line in dvc(project, "status", "dvc.yaml").splitlines()
        if line.endswith(":") and line[0] != "\t"
    }
    assert concerned == {"tune-kjv_web@bahdanau", "train-kjv_web@bahdanau-1"}
    file.write_text(before)

    # A checkpoint of another variant is refused before anything is translated.
    runs = project / "pipeline" / "numbers" / "runs"
    shutil.copy(runs / "none-1" / "checkpoints" / "best.ckpt", runs / "luong_general-1" / "checkpoints" / "best.ckpt")
    refused = subprocess.run(
        [sys.executable, "pipelines/ablation/translate_variant.py", "numbers", "luong_general", "1"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "its attention is not that of the ablation" in refused.stderr.splitlines()[-1]
    shown = dvc(project, "metrics", "show")
    assert "results/numbers/metrics.json" in shown.replace("\\", "/")
    assert "report" in dvc(project, "dag")


@pytest.mark.more
@pytest.mark.slow
def test_a_change_runs_what_follows_it_and_nothing_else(project: Path) -> None:
    dvc(project, "repro")
    file = project / "conf" / "attention" / "bahdanau.yaml"
    file.write_text(file.read_text().replace("size: 24", "size: 16"))
    again = stages_run(dvc(project, "repro"))
    assert again[:2] == ["tune-kjv_web@bahdanau", "train-kjv_web@bahdanau-1"]
    assert sorted(again[2:]) == [
        "evaluate@kjv_web",
        "explore",
        "information@kjv_web",
        "report",
        "translate-kjv_web@bahdanau-1",
    ]


def modules_of(deps: list[str]) -> set[str]:
    """Return the package's modules that a stage depends on, by their paths; a folder stands for its modules."""
    paths = [ROOT / dep for dep in deps if dep.startswith("src/")]
    files = {file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])}
    return {file.relative_to(ROOT).as_posix() for file in files if file.suffix == ".py" and file.name != "__init__.py"}


def test_every_module_is_named_by_a_stage_or_has_a_reason_not_to_be() -> None:
    """A stage depends on all code that can change its result. Only these modules cannot change one."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    named = {module for stage in stages.values() for module in modules_of(stage["deps"])}
    harmless = {
        "analysis": {
            "alignment": "reads trained models",
            **dict.fromkeys(("capacity", "channel"), "of pipelines/capacity/dvc.yaml"),
        },
        "bench": "of pipelines/bench.py",
        "config": "checks settings",
        "errors.py": "exceptions",
        "experiments": {
            "capacity": "of pipelines/capacity/dvc.yaml",
            **dict.fromkeys(("published", "published_report", "published_scores"), "of pipelines/published.py"),
            "publishing": "sends results to MLflow",
        },
        "reports": {"capacity": "of pipelines/capacity/dvc.yaml", "pictures": "draws a run"},
        "runs": "writes and reads files",
        "sweeps": "of sweeps alone",
        "system": dict.fromkeys(
            (
                *("bars", "commands", "devices", "files", "machine", "memory", "out_of_memory", "project", "records"),
                *("secrets", "yaml_files"),
            ),
            "reads and writes files, finds devices, prints",
        ),
        "tracking": "logs",
        "training": {
            "alignments": "records weights",
            "job": "opens a run",
            "jobs": "starts a training",
            "outcome": "scores a trained model again",
            "settings": "checks settings",
            "stopping": "ends a run that can be resumed",
            "trainer": "checks settings",
        },
    }
    unnamed = set()
    for name, reasons in harmless.items():
        names = [f"{name}/{module}.py" for module in reasons] if isinstance(reasons, dict) else [name]
        unnamed |= modules_of([f"src/hourglass/{each}" for each in names])
    assert named | unnamed == modules_of(["src/hourglass"])
    assert not named & unnamed


def test_the_sweep_over_the_neck_names_what_it_depends_on() -> None:
    """It depends on the code of training and of reading, and on every file that its experiments compose."""
    stages = yaml.safe_load((ROOT / "pipelines" / "capacity" / "dvc.yaml").read_text())["stages"]
    trained = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train-numbers"]["deps"]
    code = modules_of(trained) - {"src/hourglass/experiments/ablation.py"}
    own = {f"src/hourglass/{name}.py" for name in ("experiments/capacity", "analysis/channel", "metrics/likelihood")}
    for name, stage in stages.items():
        assert code | own <= modules_of(stage["deps"])
        assert stage["params"] == [{f"conf/capacity/{name}.yaml": None}]
        assert all((ROOT / dep).exists() for dep in [*stage["deps"], f"conf/capacity/{name}.yaml"])


def test_a_training_depends_on_the_code_that_its_stage_names() -> None:
    """It depends on the code in a checkpoint's digest, not on code that only passes settings on."""
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train-numbers"]["deps"]
    code = {dep for dep in deps if dep.startswith("src/")} - {"src/hourglass/experiments/ablation.py"}
    assert {f"src/{name}" for name in DECIDING} == code


def test_the_matrices_are_those_of_the_ablation() -> None:
    content = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    stages, plots = content["stages"], content["plots"]
    ablation = yaml.safe_load((ROOT / "conf" / "ablation" / "default.yaml").read_text())
    for corpus in ablation["corpora"]:
        for kind in ("tune", "train", "translate"):
            assert stages[f"{kind}-{corpus}"]["matrix"]["attention"] == f"${{{corpus}.attentions}}"
        assert f"results/{corpus}/evaluation.json" in stages["report"]["deps"]
        shown = [plot for plot in plots for name in plot if name.startswith(corpus)]
        lines = [names for plot in shown for one in plot.values() for names in one["y"].values()]
        assert lines == [ablation[corpus]["attentions"]] * 2
