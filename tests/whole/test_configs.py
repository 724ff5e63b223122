"""Every file of conf/ composes and passes the checks; contradictions are refused by name before any data is read."""

import subprocess
import sys
from pathlib import Path

import hydra
import mlflow
import pytest
import pytorch_lightning
import torch
import yaml
from helpers import CONF, ROOT, compose_config, run_script

from hourglass.errors import UserError
from hourglass.models.build import build_model
from hourglass.system.primitives import CAPACITY
from hourglass.training import settings as settings_module
from hourglass.training import trainer
from hourglass.training.settings import GROUPS, check_settings

# Further overrides that a choice needs.
NEEDS = {
    "data/text": ("data.source=de", "data.target=en", "data.train=a", "data.dev=b", "data.test=c"),
    "data/hub": ("data.source=de", "data.target=en", "data.path=somewhere"),
    "data/features": ("data.folder=a", "data.feature_size=8"),
    "data/pictures": ("data.folder=a",),
    "encoder/blind": ("attention=none",),
    "encoder/features": ("data=shapes",),
    "trainer/ddp": ("trainer.accelerator=cpu",),
}
# Needs a GPU; without one, the error says so.
GPU_ONLY = {"trainer/gpu"}
# Settings of pipelines/, not Hydra groups: they have tests of their own.
NO_GROUPS = {"ablation", "capacity", "families"}
PATHS = [file.relative_to(CONF).with_suffix("") for file in CONF.glob("*/*.yaml")]
FILES = sorted(path.as_posix() for path in PATHS if path.parent.name not in NO_GROUPS)
OTHERS = sorted(path.as_posix() for path in PATHS if path.parent.name in NO_GROUPS)
TOP = sorted(file.stem for file in CONF.glob("*.yaml"))


def test_the_groups_are_those_promised() -> None:
    promised = {"encoder", "attention", "decoder", "data", "optimizer", "trainer", "logger", "search", "experiment"}
    assert promised <= {file.split("/")[0] for file in FILES}


@pytest.mark.parametrize("file", FILES)
def test_every_choice_composes(file: str) -> None:
    group, choice = file.split("/")
    config = compose_config(f"{group}={choice}", *NEEDS.get(file, ()))
    if file in GPU_ONLY:
        with pytest.raises(UserError, match=r"accelerator=gpu.*use trainer=cpu"):
            check_settings(config)
        return
    check_settings(config)


@pytest.mark.parametrize("file", [*FILES, *OTHERS, *TOP])
def test_every_key_has_a_comment(file: str) -> None:
    """Each line that sets a key has a comment with the choices, except `name`."""
    inside_defaults = False
    for number, line in enumerate((CONF / f"{file}.yaml").read_text().splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key = line.strip().split(":")[0]
        inside_defaults = key == "defaults" or (inside_defaults and line.startswith("  "))
        if inside_defaults or key in ("name", "hydra") or line.startswith("  "):
            continue
        if file.startswith("experiment/") and key in GROUPS:  # The file of the group has the comment.
            continue
        # A file of differences repeats keys whose comments are in its parent.
        assert " # " in line or _explained_by_parent(file, key), f"conf/{file}.yaml:{number}: {line}"


def _explained_by_parent(file: str, key: str) -> bool:
    content = yaml.safe_load((CONF / f"{file}.yaml").read_text())
    parents = [entry for entry in content.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    texts = [(CONF / file.split("/", maxsplit=1)[0] / f"{parent}.yaml").read_text() for parent in parents]
    return any(line.startswith(f"{key}:") and " # " in line for text in texts for line in text.splitlines())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.devices=2"], r"trainer\.devices=2 .*use trainer=ddp"),
        (["trainer=ddp", "trainer.accelerator=cpu", "trainer.nodes=2"], r"trainer\.nodes=2: .*torchrun"),
        (
            ["trainer.cuda_graphs=true"],
            r"trainer\.cuda_graphs=true is for NVIDIA's GPUs: set ",
        ),
        (["trainer.select=chrf"], r"trainer\.select=chrf: dev has the scores bleu \(metrics\.main\) and loss"),
        (["trainer.batch_tokens=0"], r"trainer\.batch_tokens=0: .*greater than 0"),
        (["encoder=blind"], r"encoder=blind has none: set attention=none"),
        (
            ["attention=none", "decoder.start=zero"],
            r"attention=none with decoder\.start=zero .*decoder\.start=dense",
        ),
        (["attention=luong_dot", "decoder.hidden_size=128"], r"decoder\.hidden_size=128 .*encoder\.hidden_size=256"),
        (["tokenizer.joint=false"], r"decoder\.tie=all needs one vocabulary: set tokenizer\.joint=true"),
        (["decoder.readout_size=100"], r"decoder\.tie=all needs decoder\.readout_size"),
        (["seed=-1"], r"seed=-1: .*greater than or equal to 0"),
        (["edges=[2,5]"], r"edges=\[2, 5\]: .*the first of them 1"),
        (["edges=[1,5,5]"], r"edges=\[1, 5, 5\]: .*rise"),
        (["logger.tracking_uri=./mlruns"], r"logger\.tracking_uri: not an address of MLflow: set "),
        (["optimizer.learning_rate=fast"], r"optimizer\.learning_rate=fast: .*number"),
        (["data=text"], r"data\.source: not set"),
        (["data=numbers", "data.target=xx"], r"data\.target=xx: num2words has no such language"),
        (["search.beam=0"], r"search\.beam=0: .*greater than 0"),
        (["run_dir=2024"], r"run_dir=2024: .*string"),
        (["cache=null"], r"cache=None: .*string"),
        (["if_exists=ask"], r"if_exists=ask: .*'refuse', 'continue' or 'continue_or_replace'"),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        check_settings(compose_config(*overrides))
    assert "\n" not in str(refused.value)


def test_bfloat16_is_refused_on_a_cpu_without_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "bfloat16_instructions", list)
    settings = compose_config("trainer.precision=bf16-mixed")
    refused = r"^trainer\.precision=bf16-mixed: this CPU, .+, has neither avx512_bf16 nor amx_bf16, .*precision=32-true"
    with pytest.raises(UserError, match=refused):
        check_settings(settings)
    monkeypatch.setattr(trainer, "bfloat16_instructions", lambda: ["amx_bf16"])
    check_settings(settings)


# ---- By the command - ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["attention=luong_genral"],
            "error: attention=luong_genral: no such choice: did you mean luong_general? There are bahdanau, ",
        ),
        (["trainer.validations=often"], "error: trainer.validations=often: "),
        (
            ["attention.querry=previous"],
            "error: attention.querry: no such setting: write attention.query=VALUE (decoder st",
        ),
        (["run_dir=file/run"], "error: run_dir=file/run: cannot be written (Not a directory): set run_dir=PATH"),
        (
            ["data=text", "data.source=de", "data.target=en", "data.train=no", "data.dev=no", "data.test=no"],
            "no such file",
        ),
        (["resume=nowhere", "seed=2"], "error: resume=nowhere uses the settings of the run: leave out seed=2"),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path: Path, overrides: list[str], message: str) -> None:
    (tmp_path / "file").touch()
    done = (
        run_script("src/train.py", "logger=csv", *overrides, cwd=tmp_path)
        if "resume" not in overrides[0]
        else run_script("src/train.py", *overrides, cwd=tmp_path)
    )
    assert done.returncode != 0
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout
    # Nothing is written: neither a run nor a corpus.
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("file", "cache", "runs")] == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "file"]


def test_an_option_of_a_group_that_is_not_chosen_says_how_to_choose_one(tmp_path: Path) -> None:
    done = run_script("src/translate.py", "run=nowhere", "search.coverage_penalty=0.2", cwd=tmp_path)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line == (
        "error: search.coverage_penalty: no such setting: choose a file of search, too: search=beam "
        "search.coverage_penalty=VALUE"
    )


@pytest.mark.slow
def test_no_command_imports_for_seconds_before_it_has_read_its_settings(tmp_path: Path) -> None:
    """A mistake is reported at once, and a stage that does not train never imports Lightning."""
    folders = [ROOT / name for name in ("src", "pipelines", "pipelines/ablation")]
    scripts = [script for folder in folders for script in folder.glob("*.py")]
    # These two need MLflow.
    names = sorted(script.stem for script in scripts if script.stem not in ("screenshots", "track"))
    slow = ["datasets", "mlflow", "optuna", "pytorch_lightning", "torch._dynamo"]
    code = f"import sys\nsys.path[:0] = {list(map(str, folders))}\nimport {', '.join(names)}\n"
    code += f"print([name for name in {slow} if name in sys.modules])"
    message = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert message == "[]\n"


def test_help_lists_the_choices(tmp_path: Path) -> None:
    """Each choice has a line with a description."""
    message = run_script("src/train.py", "--help", cwd=tmp_path).stdout
    groups = {block.partition(":")[0]: block.splitlines()[1:] for block in message.split("\n\n")}
    composed = yaml.safe_load((CONF / "config.yaml").read_text())["defaults"]
    for group in {name for entry in composed if isinstance(entry, dict) for name in entry if "/" not in name}:
        listed = dict(line.split(maxsplit=1) for line in groups[group])
        assert listed.keys() == {file.stem for file in (CONF / group).glob("*.yaml")}
    assert "  luong_general    Luong et al. 2015: q . W k\n" in message


def test_version_names_what_an_issue_should_quote(tmp_path: Path) -> None:
    report = dict(
        line.split(maxsplit=1) for line in run_script("src/train.py", "--version", cwd=tmp_path).stdout.splitlines()
    )
    versions = {"torch": torch.__version__, "hydra-core": hydra.__version__, "mlflow": mlflow.__version__}
    versions |= {"pytorch-lightning": pytorch_lightning.__version__, "python": sys.version.split()[0]}
    assert {name: report[name] for name in versions} == versions
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    assert report["commit"].split()[0] == (commit or "unknown")
    assert torch.backends.cpu.get_cpu_capability() in report["processor"]
    assert report["hourglass"].count(".") == 2
    assert report["threads"][0].isdecimal()
    assert all(name in report["threads"] for name in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", CAPACITY))
    assert ("CUDA" in report["GPU"]) == torch.cuda.is_available()


@pytest.mark.more
@pytest.mark.slow
def test_the_version_needs_no_slow_library() -> None:
    code = "import sys; from hourglass.config.version import version_report; version_report(); print(*sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "src", capture_output=True, text=True, check=True
    )
    modules = set(finished.stdout.split())
    assert "torch" in modules
    assert not modules & {"datasets", "hydra", "mlflow", "optuna", "pytorch_lightning"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment=language_model"], r"trainer\.null_source=0\.25 with encoder=blind, which reads no source: set "),
        (["trainer.null_source=1"], r"trainer\.null_source=1: .*less than 1"),
        (["trainer.null_source=-0.1"], r"trainer\.null_source=-0\.1: .*greater than or equal to 0"),
    ],
    ids=["blind", "all", "negative"],
)
def test_nulled_sources_are_a_share_of_those_that_are_read(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        check_settings(compose_config("trainer.null_source=0.25", *overrides))


def test_a_run_of_an_earlier_version_has_read_all_its_sources() -> None:
    config = compose_config()
    del config["trainer"]["null_source"]
    assert check_settings(config).trainer.null_source == 0


def test_a_model_that_cannot_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four numbers a weight, and a state for every 16 tokens of half a batch on the longer side, here the encoder's."""
    config = compose_config("encoder.cell=delta_net", "decoder.cell=delta_net", "trainer.batch_tokens=400")
    with torch.device("meta"):
        weights = build_model(config, 8, 8, joint=True).parameter_count
    direction = 128 + 4 * 32 * 32
    needed = 4 * (4 * weights + 400 // 2 // 16 * 2 * direction)
    monkeypatch.setattr(settings_module, "memory_of", lambda device: needed)
    check_settings(config)
    monkeypatch.setattr(settings_module, "memory_of", lambda device: needed - 1)
    message = (
        r"^the model is too large for memory: .* that of the decoder having 16,640 numbers.*: set a lower decoder\.h"
        r".* or trainer\.batch_tokens, or a cell"
    )
    with pytest.raises(UserError, match=message):
        check_settings(config)
    check_settings(config, trains=False)
    config["optimizer"] = compose_config("optimizer=sgd")["optimizer"]
    check_settings(config)  # It has no averages.


def test_a_frozen_encoder_keeps_no_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source may be the longer side, and the decoder reads few steps: a state is all that is sure."""
    config = compose_config("encoder.cell=delta_net", "decoder.cell=delta_net", "frozen_encoder=runs/other")
    with torch.device("meta"):
        model = build_model(config, 8, 8, joint=True)
    frozen = sum(weight.numel() for weight in model.encoder.parameters())
    needed = 4 * (4 * (model.parameter_count - frozen) + frozen + 16_640)
    monkeypatch.setattr(settings_module, "memory_of", lambda device: needed)
    check_settings(config)
    monkeypatch.setattr(settings_module, "memory_of", lambda device: needed - 1)
    with pytest.raises(UserError, match=r"^the model is too large for memory: .*encoder\.summary_size, or a cell"):
        check_settings(config)


@pytest.mark.parametrize("size", [10**10, 10**20])
def test_a_tensor_beyond_all_counting_is_refused(size: int) -> None:
    config = compose_config()
    config["decoder"]["hidden_size"] = size
    with pytest.raises(UserError, match=r"^the model is too large: .* more numbers than torch can count: set lower "):
        check_settings(config)


@pytest.mark.parametrize("group", ["optimizer", "if_exists"])
def test_settings_that_lack_a_part_are_refused(group: str) -> None:
    config = compose_config()
    del config[group]
    with pytest.raises(UserError, match=f"^{group}: the settings lack"):
        check_settings(config)


@pytest.mark.parametrize(
    ("overrides", "option"),
    [(["trainer=ddp"], "strategy=ddp"), (["trainer.scheduled_sampling=0.25"], r"scheduled_sampling=0\.25")],
)
def test_graphs_contradict(overrides: list[str], option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = compose_config(*overrides, "trainer.accelerator=auto", "trainer.cuda_graphs=true")
    with pytest.raises(UserError, match=rf"^trainer\.cuda_graphs=true contradicts trainer\.{option}: set "):
        check_settings(config)
