"""dvc repro on a tiny ablation: all of it, nothing the second time, and then only what a change touches."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from hourglass.checkpoints import DECIDING

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
    """Make the default ablation one of seconds: the same stages and files, fewer and smaller runs."""
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
    shutil.copy(ROOT / ".gitignore", folder)
    shrink(folder)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    dvc(folder, "init", "-q")
    return folder


def dvc(project: Path, *words: str) -> str:
    """Run a command of DVC's in the project, with the project's own code, and return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
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

    # A second time there is nothing to do.
    assert "Data and pipelines are up to date" in dvc(project, "repro")

    # A variant's own file concerns that variant and what follows it.
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

    # A checkpoint of another variant is named before anything is translated.
    runs = project / "pipeline" / "numbers" / "runs"
    shutil.copy(runs / "none-1" / "checkpoints" / "best.ckpt", runs / "luong_general-1" / "checkpoints" / "best.ckpt")
    refused = subprocess.run(
        [sys.executable, "pipelines/translate_variant.py", "numbers", "luong_general", "1"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "a checkpoint of another attention than the ablation's" in refused.stderr.splitlines()[-1]
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


def test_every_module_is_named_by_a_stage_or_has_a_reason_not_to_be() -> None:
    """A change of code that a result hangs on re-runs the stage; only these cannot change a result."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    named = {
        Path(dep).name
        for stage in stages.values()
        for dep in stage["deps"]
        if str(dep).startswith("src/hourglass") and str(dep).endswith(".py")
    }
    harmless = {
        "__init__.py": "holds nothing",
        "alignment.py": "reads what is trained",
        **dict.fromkeys(("capacity.py", "capacity_report.py", "channel.py"), "of pipelines/capacity/dvc.yaml"),
        "devices.py": "finds devices",
        **dict.fromkeys(("pictures.py", "word_alignment.py"), "shows what is trained"),
        **dict.fromkeys(("packing.py", "registry.py", "served_model.py"), "packs what is trained"),
        "errors.py": "shows errors",
        "heap.py": "keeps memory",
        "imports.py": "imports Lightning",
        **dict.fromkeys(("logger.py", "options.py", "settings.py", "trainer.py"), "checks"),
        **dict.fromkeys(("published.py", "published_report.py"), "of pipelines/published.py"),
        "runs.py": "writes and reads files",
        "tracking.py": "logs",
        "mirror.py": "logs",
        "publishing.py": "logs",
        "stopping.py": "ends a run that is to be gone on with",
        "jobs.py": "starts a training",
        **dict.fromkeys(("bare.py", "plain_search.py", "speed.py"), "of pipelines/bench.py"),
        "usage.py": "says what --help does",
        **dict.fromkeys(("pruning.py", "sweep_report.py", "sweeping.py", "trials.py"), "of sweeps alone"),
    }
    modules = {path.name for path in (ROOT / "src" / "hourglass").glob("*.py")}
    assert named | harmless.keys() == modules
    assert not named & harmless.keys()


def test_the_sweep_over_the_neck_names_what_it_hangs_on() -> None:
    """The code of a training and of the reading, and every file that its experiments compose."""
    stages = yaml.safe_load((ROOT / "pipelines" / "capacity" / "dvc.yaml").read_text())["stages"]
    trained = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train-numbers"]["deps"]
    code = {dep for dep in trained if dep.startswith("src/")} - {
        "src/hourglass/ablation.py",
        "src/hourglass/pretrained.py",
    }
    for name, stage in stages.items():
        deps = set(stage["deps"])
        assert code | {f"src/hourglass/{one}.py" for one in ("capacity", "channel", "information")} <= deps
        assert f"conf/capacity/{name}.yaml" in deps
        assert all((ROOT / dep).is_file() for dep in deps)


def test_a_training_hangs_on_the_code_that_its_stage_names() -> None:
    """What is in a checkpoint's digest of code; and nothing that only passes settings on."""
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train-numbers"]["deps"]
    code = {dep for dep in deps if dep.startswith("src/")} - {"src/hourglass/ablation.py"}
    here = ROOT / "src" / "hourglass"
    assert {str((here / name).resolve().relative_to(ROOT)) for name in DECIDING} == code


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
