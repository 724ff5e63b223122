"""DVC on a tiny ablation: all stages, then none, then only those that a change affects; and what its stages name."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import ROOT, children_of, quick_python, run_script, wait_for, wait_until, write_multi30k
from hydra import compose, initialize_config_dir

from hourglass.experiments.ablation import load_ablation
from hourglass.system.yaml_files import read_yaml
from hourglass.training.resuming import DECIDING

pytest.importorskip("dvc", reason="the pipeline needs DVC: pip install -e '.[pipeline]'")

CHANGES = {
    "conf/data/numbers.yaml": {"train_pairs": 600, "dev_pairs": 24, "test_pairs": 60, "vocabulary_size": 80},
    "conf/encoder/rnn.yaml": {"hidden_size": 32, "embedding_size": 16, "summary_size": 16},
    "conf/encoder/blind.yaml": {"embedding_size": 16, "summary_size": 16},
    "conf/decoder/rnn.yaml": {"hidden_size": 32, "embedding_size": 16, "readout_size": 16},
    "conf/search/beam.yaml": {"beam": 1, "output_most": 8},
    "conf/trainer/cpu.yaml": {"dev_sentences": 10, "log_every": 1, "checkpoint_every": 2},
}


RATE = "conf/ablation/default.yaml:tune.learning_rates=[0.00005]"


# Of each corpus, in dvc.yaml.
STAGES = ("prepare", "fingerprint", "evaluate", "tune-blind", "information", "ladder", "models", "explore")


# Code of an ablation's settings and fingerprints: it is no part of a checkpoint's digest.
MEASURING = {
    "src/hourglass/experiments/ablation.py",
    *(f"src/hourglass/training/{name}.py" for name in ("fingerprint", "first_steps")),
}


def shrink(project: Path) -> None:
    """Shrink the default ablation to seconds as its files say, one corpus, with its files elsewhere."""
    for name, values in CHANGES.items():
        lines = (project / name).read_text().splitlines()
        for key, value in values.items():
            (at,) = (i for i, line in enumerate(lines) if line.startswith(f"{key}:"))
            lines[at] = f"{key}: {value}"
        (project / name).write_text("\n".join([*lines, ""]))
    file = project / "conf" / "ablation" / "default.yaml"
    content = yaml.safe_load(file.read_text())
    content |= {"corpora": ["numbers"], "results": "kept/results", "intermediate": "pipeline/small", "examples": 2}
    content["estimands"] = [["luong_general", "none"], ["luong_general", "fixed"]]
    content["overrides"] = [word.replace("warmup=200", "warmup=2") for word in content["overrides"]]
    content["numbers"] |= {"variants": ["none", "luong_general"], "controls": ["mean"], "seeds": [1]}
    content["numbers"] |= {"budgets": [2500, 5000], "tune_tokens": 2000}
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
    git(folder, "init", "-q")
    dvc(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "shrunk")
    return folder


def git(project: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *words], cwd=project, check=True, capture_output=True)


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


def stages_changed(printed: str) -> set[str]:
    """Return the stages that `dvc status` lists, without the path of their file."""
    names = [line.removesuffix(":") for line in printed.splitlines() if line.endswith(":") and line[0] != "\t"]
    return {name.rpartition(":")[2] for name in names}


def check_what_is_kept(project: Path, kept: Path, whole: Path) -> None:
    """Translate with the small model; nothing that is kept names a folder of this machine.

    Args:
        project: where it was trained.
        kept: results of the corpus.
        whole: the checkpoint that the small model was made of.
    """
    small = kept / "models" / "none"
    assert (small / "checkpoints" / "best.ckpt").stat().st_size < whole.stat().st_size / 3
    translated = run_script("src/translate.py", f"run={small}", "search=greedy", stdin=b"one two\n")
    assert translated.stdout.count("\n") == 1
    for config in kept.rglob("config.yaml"):  # Of what git keeps: for other machines.
        assert str(project) not in config.read_text()
    assert str(project).encode() not in (small / "checkpoints" / "best.ckpt").read_bytes()
    losses = json.loads((small / "metrics.json").read_text())["rounding"]
    assert losses["dev_loss_in_bfloat16"] == pytest.approx(losses["dev_loss_in_float32"], abs=0.01)


@pytest.mark.slow
def test_the_whole_pipeline_and_what_a_change_touches(project: Path, tmp_path: Path) -> None:
    # The setting by DVC's own option: DVC writes 5e-05, which every reader of ours takes for a number.
    first = stages_run(dvc(project, "exp", "run", "-S", RATE))
    variants = ["none", "luong_general"]
    assert sorted(name.rpartition(":")[2] for name in first) == sorted(
        [f"{stage}@numbers" for stage in STAGES]
        + [f"tune-numbers@{name}" for name in variants]
        + ["control-numbers@mean-1", "blind-numbers@1"]
        + [f"{stage}-numbers@{name}-1" for stage in ("train", "translate", "keep") for name in variants]
        + ["report"]
    )
    assert "5e-05" in (project / "conf" / "ablation" / "default.yaml").read_text()
    made, kept = project / "pipeline" / "small" / "numbers", project / "kept" / "results"
    for run in ("tune/none-0", "runs/luong_general-1/5000", "runs/mean-1/2500", "blind/blind-1/5000"):
        assert read_yaml((made / run / "config.yaml").read_text())["optimizer"]["learning_rate"] == 0.00005
    assert "Watch it translate: numbers" in (kept / "numbers" / "explorer.html").read_text()
    facts, overlap = ((at / name).read_text() for at, name in ((kept, "numbers/corpus.json"), (made, "overlap.json")))
    sides = [json.loads(overlap)["sides"][split][side] for split in ("dev", "test") for side in ("source", "target")]
    counted = [json.loads(facts)["overlap"][split][side] for split in ("dev", "test") for side in ("source", "target")]
    assert [own["sentences"] for own in counted] == [len(own["words"]) for own in sides] == [24, 24, 60, 60]
    assert [own["sharing"] for own in counted] == [sum(map(bool, own["covered"])) for own in sides]
    check_what_is_kept(project, kept / "numbers", made / "runs" / "none-1" / "5000" / "checkpoints" / "best.ckpt")
    for name in ("report.md", "numbers/metrics.json", "numbers/score_by_length.csv", "figures", "tables"):
        assert (kept / name).exists(), name
    assert not (project / "results").exists()
    report = (kept / "report.html").read_text()
    assert "luong_general" in report
    assert "Bits through the neck" in report
    assert "With 5,000 target tokens, luong_general receives" in report
    assert "cannot be told" in report
    assert "kjv_web" not in report

    # The second time, no stage runs, and nothing is absent.
    assert "Data and pipelines are up to date" in dvc(project, "repro")
    assert "Data and pipelines are up to date" in dvc(project, "status", "--with-deps", "dvc.yaml")

    # In a fresh clone only what git does not keep is absent.
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "recorded")
    git(project, "clone", "-q", str(project), str(tmp_path / "clone"))
    lines = dvc(tmp_path / "clone", "status", "--with-deps", "dvc.yaml").splitlines()
    absent = {line.split()[-1] for line in lines if line.startswith("\t\tdeleted:")}
    others = [line for line in lines if line.startswith("\t\t") and line.split()[-1] not in absent]
    assert not others
    assert absent
    assert all(path.startswith("pipeline/small/numbers/") for path in absent)

    # A change of code or of a file of settings that alters nothing trains nothing anew: the fingerprints are as before.
    for file in ("conf/attention/luong_general.yaml", "src/hourglass/models/attention.py"):
        (project / file).write_text(f"{(project / file).read_text()}# changed\n")
    assert stages_run(dvc(project, "repro", "fingerprint@numbers")) == ["fingerprint@numbers"]
    again = stages_changed(dvc(project, "status", "--with-deps", "dvc.yaml"))
    assert "evaluate@numbers" in again
    assert not [name for name in again if name.startswith(("tune-", "train-", "blind-", "control-"))]

    # A checkpoint of another variant is refused before anything is translated.
    runs = made / "runs"
    whole = runs / "luong_general-1" / "5000" / "checkpoints" / "best.ckpt"
    content = whole.read_bytes()
    shutil.copy(runs / "none-1" / "5000" / "checkpoints" / "best.ckpt", whole)
    refused = subprocess.run(
        [sys.executable, "pipelines/ablation/translate_variant.py", "numbers", "luong_general", "1"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    whole.write_bytes(content)
    assert refused.returncode == 1
    assert "its attention is not that of the ablation" in refused.stderr.splitlines()[-1]


@pytest.mark.more
@pytest.mark.slow
def test_a_variant_that_is_added_in_a_fresh_clone_is_trained_alone(project: Path, tmp_path: Path) -> None:
    """And compared with what is kept of the others, whose weights the clone does not have."""
    dvc(project, "repro")
    git(project, "add", "-A")
    git(project, "commit", "-q", "--allow-empty", "-m", "recorded")
    clone = tmp_path / "clone"
    git(project, "clone", "-q", str(project), str(clone))
    recorded = project / "kept" / "results" / "evaluations" / "numbers.json"
    assert not stages_run(dvc(clone, "repro", "--allow-missing"))
    file = clone / "conf" / "ablation" / "default.yaml"
    content = yaml.safe_load(file.read_text())
    content["numbers"]["controls"].append("fixed")
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    assert stages_run(dvc(clone, "repro", "prepare@numbers")) == ["prepare@numbers"]
    printed = dvc(clone, "repro", "--allow-missing")
    again = [name.rpartition(":")[2] for name in stages_run(printed)]
    assert sorted(again) == sorted(
        ["fingerprint@numbers", "control-numbers@fixed-1"]
        + [f"{stage}@numbers" for stage in ("evaluate", "information", "ladder", "models", "explore")]
        + ["report"]
    )
    assert printed.count("left as it is: ") == 1  # The model, of which the page is made.
    report = (clone / "kept" / "results" / "report.md").read_text()
    for name in ("none", "luong_general", "mean", "fixed"):
        assert f"| {name} |" in report
    before, after = (
        json.loads(file.read_text())["variants"]
        for file in (recorded, clone / "kept" / "results" / "evaluations" / "numbers.json")
    )
    assert after.keys() - before.keys() == {"fixed"}
    assert all(after[name]["score"]["by_seed"] == own["score"]["by_seed"] for name, own in before.items())


@pytest.mark.more
@pytest.mark.slow
def test_multi30k_goes_on_after_a_kill_and_keeps_no_sentence(project: Path, tmp_path: Path) -> None:
    """The ablation of conf/ablation/multi30k.yaml, shrunk, on made sentences; what may be published holds none."""
    write_multi30k(tmp_path / "raw")
    file = project / "conf" / "ablation" / "multi30k.yaml"
    content = yaml.safe_load(file.read_text())
    content["tune"] = {"learning_rates": [0.002], "dropouts": [0.1, 0.3], "dropout_tokens": 1500}
    content["overrides"] = [word.replace("warmup=200", "warmup=2") for word in content["overrides"]]
    content["multi30k"] |= {"variants": ["none", "fixed"], "seeds": [1], "budgets": [1000, 2000], "tune_tokens": 800}
    content["multi30k"]["overrides"].append("data.vocabulary_size=80")
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    command = [quick_python(), "pipelines/ablate.py", "multi30k", f"data.folder={tmp_path / 'raw'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "src"}
    made = project / "pipeline" / "multi30k"
    first = made / "multi30k" / "runs" / "none-1" / "1000" / "metrics.json"
    with subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL) as process:
        wait_for(first.exists, process, "the first run is trained")
        stages = children_of(process)
        process.kill()
    wait_until(lambda: not any(stage.is_running() and stage.status() != "zombie" for stage in stages), "its stages end")
    trained = first.read_bytes()
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == f"written: {made}/results/report.html"
    assert "left to train, in all: 0.0 of 0.0 million target tokens" in done.stdout
    assert first.read_bytes() == trained  # Not trained again.
    run = made / "results" / "multi30k" / "runs" / "fixed-1" / "2000"
    data = read_yaml((run / "config.yaml").read_text())["data"]
    assert (data["captions"], len(data["test"])) == (3, 3)
    report = (made / "results" / "report.md").read_text()
    assert "dropout" in report
    assert "Made by python pipelines/ablate.py multi30k" in report
    # The words of the corpus, such as d6w12, are in what it makes, and not in what it may publish.
    word = re.compile(rb"\b[de](n|l|r|k|o)w\d+\b")
    assert word.search((made / "multi30k" / "translations" / "fixed-1" / "test.tsv").read_bytes())
    published = [path for path in (made / "results").rglob("*") if path.is_file()]
    assert len(published) > 20
    assert not [path for path in published if word.search(path.read_bytes())]


@pytest.mark.more
@pytest.mark.slow
def test_dvc_shows_metrics_stages_and_plots(project: Path) -> None:
    dvc(project, "repro")
    assert "kept/results/numbers/metrics.json" in dvc(project, "metrics", "show").replace("\\", "/")
    assert "report" in dvc(project, "dag")
    dvc(project, "plots", "show")
    page = (project / "dvc_plots" / "index.html").read_text()
    assert "numbers, BLEU by source words" in page
    assert '"luong_general"' in page


@pytest.mark.more
@pytest.mark.slow
def test_a_change_of_a_score_trains_its_variant_anew_and_no_other(project: Path) -> None:
    dvc(project, "repro")
    file = project / "src" / "hourglass" / "models" / "attention.py"
    before, tuned = file.read_text(), project / "kept" / "results" / "numbers" / "tune"
    at = before.index("return query @", before.index("class GeneralAttention"))
    file.write_text(f"{before[:at]}return 1.01 * query @{before[at + len('return query @') :]}")
    others = {name: (tuned / f"{name}.json").read_bytes() for name in ("none", "mean", "blind")}
    again = [name.rpartition(":")[2] for name in stages_run(dvc(project, "repro"))]
    assert again[:2] == ["fingerprint@numbers", "tune-numbers@luong_general"]
    assert {name for name in again if name.startswith(("tune", "train", "control", "blind", "translate"))} <= {
        "tune-numbers@luong_general",
        "train-numbers@luong_general-1",
        "translate-numbers@luong_general-1",
    }
    assert "train-numbers@luong_general-1" in again
    assert others == {name: (tuned / f"{name}.json").read_bytes() for name in others}
    file.write_text(before)


def stages_of(file: str) -> dict[str, Any]:
    """Return the stages of a dvc.yaml, as they are written."""
    content: dict[str, Any] = yaml.safe_load((ROOT / file).read_text())
    return content["stages"]


def ablation_stages() -> dict[str, Any]:
    return {**stages_of("dvc.yaml"), **stages_of("pipelines/ablation/dvc.yaml")}


def modules_of(deps: list[str]) -> set[str]:
    """Return the package's modules that a stage depends on, by their paths; a folder stands for its modules."""
    paths = [ROOT / dep for dep in deps if dep.startswith("src/")]
    files = {file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])}
    return {file.relative_to(ROOT).as_posix() for file in files if file.suffix == ".py" and file.name != "__init__.py"}


def test_every_module_is_named_by_a_stage_or_has_a_reason_not_to_be() -> None:
    """A stage depends on all code that can change its result. Only these modules cannot change one."""
    stages = ablation_stages()
    named = {module for stage in stages.values() for module in modules_of(stage["deps"])}
    harmless = {
        "analysis": {
            "alignment": "reads trained models",
            "apart": "of pipelines/apart.py",
            **dict.fromkeys(("frozen", "state_probes"), "of pipelines/probes.py"),
            "grids": "of sources that are features, which no corpus of the ablation has",
            "grouping": "of pipelines/compare.py",
            "live": "of pipelines/explore.py serve=true",
            "nulled": "of pipelines/nulled.py",
            "probes": "of pipelines/probes.py",
            "schedules": "of pipelines/schedules.py",
            **dict.fromkeys(("capacity", "channel"), "of pipelines/capacity/dvc.yaml"),
            "families": "of pipelines/families/dvc.yaml",
        },
        "bench": "of pipelines/bench.py",
        "config": dict.fromkeys(  # All but `older`.
            (
                *("command_line", "compose", "differences", "options", "plugins", "registry", "unknown_keys"),
                *("usage", "version"),
            ),
            "checks settings",
        ),
        "decoding": {
            **dict.fromkeys(("precision", "translate"), "of the stage translate, which hangs on the runs"),
            **dict.fromkeys(("copied", "word_alignment"), "of translate.py"),
        },
        "errors.py": "exceptions",
        "experiments": {
            "capacity": "of pipelines/capacity/dvc.yaml",
            "families": "of pipelines/families/dvc.yaml",
            **dict.fromkeys(("published", "published_report", "published_scores"), "of pipelines/published.py"),
            "keeping": "of the stage keep, which hangs on the runs",
            "publishing": "sends results to MLflow",
            "remaining": "prints what is left to train",
            "schedules": "of pipelines/schedules.py",
            "stages": "runs the stages of other ablations",
            **dict.fromkeys(("rate_search", "tuning"), "starts trainings, which hang on their fingerprint"),
        },
        "reports": {
            "apart": "of pipelines/apart.py",
            "capacity": "of pipelines/capacity/dvc.yaml",
            "comparison": "of pipelines/compare.py",
            "families": "of pipelines/families/dvc.yaml",
            "pictures": "draws a run",
            "probes": "of pipelines/probes.py",
            "schedules": "of pipelines/schedules.py",
        },
        "runs": "writes and reads files",
        "sweeps": "of sweeps alone",
        "system": dict.fromkeys(
            (
                *("arrays", "bars", "commands", "devices", "files", "interrupts", "machine", "memory", "out_of_memory"),
                *("primitives", "project", "records", "secrets", "waiting", "yaml_files"),
            ),
            "reads and writes files, finds devices, prints",
        ),
        "tracking": "logs",
        "training": {
            "alignments": "records weights",
            "hosts": "connects several machines",
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
    stages = stages_of("pipelines/capacity/dvc.yaml")
    trained = ablation_stages()["fingerprint"]["deps"]
    code = modules_of(trained) - MEASURING
    own = {f"src/hourglass/{name}.py" for name in ("experiments/capacity", "analysis/channel", "metrics/likelihood")}
    for name, stage in stages.items():
        assert code | own <= modules_of(stage["deps"])
        assert stage["params"] == [{f"conf/capacity/{name}.yaml": None}]
        assert all((ROOT / dep).exists() for dep in [*stage["deps"], f"conf/capacity/{name}.yaml"])


def test_a_training_depends_on_its_fingerprint_and_that_on_the_code_that_decides() -> None:
    """On the code in a checkpoint's digest, not on code that only passes settings on."""
    stages = ablation_stages()
    deps = stages["fingerprint"]["deps"]
    assert {f"src/{name}" for name in DECIDING} == {dep for dep in deps if dep.startswith("src/")} - MEASURING
    for name in ("tune-numbers", "train-numbers", "tune-kjv_web", "train-kjv_web"):
        assert stages[name]["deps"] == ["${results}/${corpus}/fingerprints/${item.variant}.json"]
    assert stages["tune-blind"]["deps"] == ["${results}/${item.corpus}/fingerprints/blind.json"]
    assert (
        stages["blind-numbers"]["deps"]
        == stages["blind-kjv_web"]["deps"]
        == ["${results}/${corpus}/fingerprints/blind.json"]
    )
    assert stages["control-kjv_web"]["deps"][0] == stages["train-kjv_web"]["deps"][0]


def test_every_corpus_of_the_ablation_has_its_stages_and_plots() -> None:
    """dvc.yaml names none, so that `corpora` alone decides; the file beside the scripts has those of each block."""
    content = yaml.safe_load((ROOT / "pipelines" / "ablation" / "dvc.yaml").read_text())
    ablation = yaml.safe_load((ROOT / "conf" / "ablation" / "default.yaml").read_text())
    blocks = [name for name, value in ablation.items() if isinstance(value, dict) and name not in ("tune", "variants")]
    assert set(ablation["corpora"]) <= set(blocks)
    assert content["stages"].keys() == {
        f"{kind}-{name}" for kind in ("tune", "train", "translate", "keep", "control", "blind") for name in blocks
    }
    whole = str(stages_of("dvc.yaml"))
    for name in blocks:
        assert name not in whole
        for kind in ("tune", "train", "translate", "keep", "control", "blind"):
            stage = content["stages"][f"{kind}-{name}"]
            assert stage["vars"] == [{"corpus": name}]
            variants = {"control": f"${{{name}.controls}}", "blind": None}
            assert stage["matrix"].get("variant") == variants.get(kind, f"${{{name}.variants}}")
            seeds = {"tune": None, "control": [f"${{{name}.seeds[0]}}"]}
            assert stage["matrix"].get("seed") == seeds.get(kind, f"${{{name}.seeds}}")
        shown = [plot for plots in content["plots"] for title, plot in plots.items() if title.startswith(f"{name},")]
        lines = [line for plot in shown for line in plot["y"].items()]
        folder = f"../../${{results}}/{name}"
        assert [path for path, _ in lines] == [f"{folder}/score_by_length.csv", f"{folder}/learning.csv"]
        assert all(columns == f"${{{name}.variants}}" for _, columns in lines)


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    """The stages of the ablation as DVC resolves them, by name, without those of corpora that wait."""
    repository = importlib.import_module("dvc.repo").Repo(str(ROOT))
    stages = {
        stage.name: stage for stage in repository.index.stages if not re.search("capacity|families", stage.addressing)
    }
    block = re.compile(r"(tune|train|translate|keep|control|blind)-(?!blind@)(?P<corpus>\w+)@")
    names = {name: match["corpus"] for name in stages if (match := block.match(name))}
    corpora = load_ablation().corpora
    return {name: stage for name, stage in stages.items() if name not in names or names[name] in corpora}


def params(dependency: Any) -> list[str]:
    """The keys of a file of settings that a stage depends on; empty for a dependency on the whole file."""
    return list(getattr(dependency, "params", []))


@pytest.mark.slow
def test_what_a_stage_names_is_there_or_made_by_another(resolved: dict[str, Any]) -> None:
    """DVC says nothing of a folder that no stage makes any more until the stage runs, hours later."""
    made = {str(out.fs_path) for stage in resolved.values() for out in stage.outs}
    for name, stage in resolved.items():
        commands = stage.cmd if isinstance(stage.cmd, list) else [stage.cmd]
        scripts = [next(word for word in command.split() if word.endswith(".py")) for command in commands]
        files = [dep for dep in stage.deps if params(dep)]
        paths = [str(dep.fs_path) for dep in stage.deps if not params(dep)]
        assert all((ROOT / script).is_file() for script in scripts), name
        # What trains hangs on its fingerprint, and what reads a run on the run, not on the text of a script.
        named = {script for script in scripts if str(ROOT / script) in paths}
        names = ("tune", "train_variant", "train_blind", "translate_variant", "keep_runs", "keep_models")
        assert named == set(scripts) - {f"pipelines/ablation/{script}.py" for script in names}, name
        for path in paths:
            inside = [
                out
                for out in made
                if out == path or out.startswith(f"{path}{os.sep}") or path.startswith(f"{out}{os.sep}")
            ]
            assert inside or Path(path).exists(), f"{name}: {path}"
        for file in files:
            if str(file.fs_path) in made:
                continue
            content = read_yaml(Path(file.fs_path).read_text())
            for key in params(file):
                value = content
                for part in key.split("."):
                    assert part in value, f"{name}: {key}"
                    value = value[part]


@pytest.mark.slow
def test_a_fingerprint_names_the_files_that_its_settings_come_from(resolved: dict[str, Any]) -> None:
    """Hydra says of which file it took each group; where it reports and how it sweeps changes no result."""
    ablation = load_ablation()
    for corpus in ablation.corpora:
        named = [Path(dep.fs_path) for dep in resolved[f"fingerprint@{corpus}"].deps if not params(dep)]
        for variant in [*ablation.variants(corpus), ablation.blind(corpus)]:
            with initialize_config_dir(str(ROOT / "conf")):
                words = ablation.overrides(variant, 1, 1000)
                choices = compose("config", overrides=words, return_hydra_config=True).hydra.runtime.choices
            used = {ROOT / "conf" / "config.yaml", ROOT / "conf" / "trainer" / "cpu.yaml"} | {
                ROOT / "conf" / group / f"{choice}.yaml"
                for group, choice in choices.items()
                if choice and not group.startswith("hydra") and group != "logger"
            }
            assert all({file, *file.parents} & {*named} for file in used), variant
