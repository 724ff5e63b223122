"""No file runs code: not a checkpoint, a cached file, a dataset or a setting.

Every trap here is first sprung on purpose, or stands beside a test that springs it, so that it is known to be one.
"""

import ast
import io
import json
import os
import pickle
import re
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from helpers import ROOT, SMALL, compose_config, run_script
from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from hourglass.analysis.evaluation import SCHEMA_VERSION, rate_word
from hourglass.analysis.grouping import open_finished
from hourglass.config.command_line import check_command_line, read_command
from hourglass.config.compose import plain_values
from hourglass.config.options import build
from hourglass.config.plugins import load_plugins
from hourglass.corpora.corpus import check_recipe, load_corpus
from hourglass.data.encoded import encode_corpus
from hourglass.data.tokenizer import Tokenizer, TokenizerSettings, Vocabularies, train_vocabularies
from hourglass.errors import UserError
from hourglass.experiments.ablation import Variant, load_ablation
from hourglass.models import checkpoint
from hourglass.models.build import build_model
from hourglass.models.checkpoint import load_trained
from hourglass.runs.curves import read_curves
from hourglass.runs.folder import RunFolder, create_run, open_run
from hourglass.runs.translations import read_translations
from hourglass.system.cache import FILES
from hourglass.system.files import read_json
from hourglass.training.finished import FinishedRun
from hourglass.training.resuming import find_start, load_progress
from hourglass.training.saving import WholeFiles
from hourglass.training.settings import check_settings


class Trap:
    """An object whose pickle creates a file when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)

    def sprung(self) -> bool:
        """Return whether the pickle has run, and reset the trap."""
        there = self.marker.exists()
        if there:
            self.marker.rmdir()
        return there


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path / "it_ran")


@pytest.fixture
def run(small_run: RunFolder, tmp_path: Path) -> RunFolder:
    """Return a copy of the run for a test to damage; the cache is shared."""
    shutil.copytree(small_run.path, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")


def command(script: str, *words: str, cwd: Path) -> str:
    """Run a script that must fail, and return its last line."""
    done = run_script(f"src/{script}", *words, cwd=cwd, stdin=b"s0\n")
    assert done.returncode != 0
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


# ---- Checkpoints -----------------------------------------------------------------------------------------------------


def as_pickle(content: Any, file: Path) -> None:
    file.write_bytes(pickle.dumps(content))


def as_old_torch(content: Any, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def as_older_torch(content: Any, file: Path) -> None:
    """Write torch's format before 2018: a tar file."""
    with tarfile.open(file, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            raw = pickle.dumps(content if name == "pickle" else 0)
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))


FORMS = [torch.save, as_pickle, as_old_torch, as_older_torch]


@pytest.mark.parametrize("form", FORMS)
def test_no_reader_runs_code_of_a_checkpoint(form: Callable[..., Any], run: RunFolder, trap: Trap) -> None:
    """In all formats that torch has ever read, each complete except for one planted object."""
    content = torch.load(run.last, weights_only=True)
    config, digest = content["hourglass"]["config"], content["hourglass"]["corpus_digest"]
    vocabularies = Vocabularies.from_state_dict(content["hourglass"]["vocabularies"])
    assert find_start(run.last, run.previous, config, vocabularies, digest) is not None
    run.previous.unlink(missing_ok=True)
    form({**content, "planted": trap}, run.last)
    if form is not as_older_torch:  # torch no longer reads it completely, even with weights_only=False
        torch.load(run.last, weights_only=False) if form is not as_pickle else pickle.loads(run.last.read_bytes())
        assert trap.sprung(), "the trap is none"
    for read in (load_trained, load_progress):
        with pytest.raises(UserError, match=r"last\.ckpt: not a whole checkpoint of hourglass[^\n]*$"):
            read(run.last)
    with pytest.raises(UserError, match="not a whole checkpoint"):
        find_start(run.last, run.previous, config, vocabularies, digest)
    with pytest.raises(Exception, match=r".*"):
        WholeFiles().load_checkpoint(run.last)
    assert not trap.sprung()


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("hourglass", {}),
        ("hourglass", None),
        ("state_dict", []),
        ("state_dict", {"model.output.weight": "none"}),
        ("hourglass.config", []),
        ("hourglass.config.encoder.name", "os.system"),
        ("hourglass.config.encoder._target_", "os.system"),
        ("hourglass.config.encoder", {}),
        ("hourglass.config.encoder.hidden_size", 10**8),  # one matrix would take 40 million gigabytes
        ("hourglass.config.decoder", None),
        ("hourglass.vocabularies", {"source": torch.zeros(9, dtype=torch.uint8)}),
        ("hourglass.vocabularies.source", torch.zeros(9, dtype=torch.uint8)),
        ("hourglass.vocabularies.source", "no tensor"),
    ],
)
def test_an_altered_checkpoint_is_one_line(where: str, what: Any, run: RunFolder) -> None:
    content = torch.load(run.best, weights_only=True)
    *parents, last = where.split(".")
    part = content
    for parent in parents:
        part = part[parent]
    part[last] = what
    torch.save(content, run.best)
    with pytest.raises(UserError, match=rf"^{run.best}: [^\n]*$"):
        load_trained(run.best)


def test_altered_settings_cost_no_memory(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shapes that the settings imply are compared with the weights before memory is allocated."""
    content = torch.load(run.best, weights_only=True)
    content["hourglass"]["config"]["encoder"]["hidden_size"] *= 2
    torch.save(content, run.best)
    devices = []

    def spy(*given: Any, **options: Any) -> Any:
        devices.append(torch.empty(0).device.type)
        return build_model(*given, **options)

    monkeypatch.setattr(checkpoint, "build_model", spy)
    with pytest.raises(UserError, match="do not fit its own settings"):
        load_trained(run.best)
    assert devices == ["meta"]


def test_a_run_does_not_import_the_plugins_that_it_names(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its checkpoints nor its config.yaml: only the user names plugins. (test_extensions.py tries commands.)"""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'it_ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = yaml.safe_load(run.config.read_text()) | {"plugins": ["evil"]}
    run.config.write_text(yaml.safe_dump(config))
    content = torch.load(run.best, weights_only=True)
    content["hourglass"] |= {"config": config, "plugins": {"evil": {"digest": "0", "registers": ["attention.name=x"]}}}
    torch.save(content, run.best)
    finished = FinishedRun.open(run.path)
    for read in (
        lambda: load_trained(run.best),
        lambda: finished.settings,
        lambda: finished.corpus,
        lambda: finished.prepared,
        lambda: check_settings(config),
    ):
        with pytest.raises(UserError, match=r"needs plugins=\[evil\]: "):
            read()
    assert not (tmp_path / "it_ran").exists()
    with pytest.raises(UserError, match="registers nothing"):
        load_plugins(["evil"])
    assert (tmp_path / "it_ran").exists(), "the trap is none"


@pytest.mark.slow
def test_commands_do_not_run_a_planted_checkpoint(run: RunFolder, trap: Trap) -> None:
    """Translate from either, resume from last.ckpt, and resume a finished run, which reads only best.ckpt."""
    good = run.last.read_bytes()
    for place in (run.best, run.last, run.previous):
        if place.exists():
            torch.save({**torch.load(place, weights_only=True), "planted": trap}, place)
    wrong = "not a whole checkpoint of hourglass: cut short, damaged, or of something else"
    where = run.path.parent
    assert command("translate.py", f"run={run.path}", cwd=where) == f"error: {run.best}: {wrong}"
    assert command("translate.py", f"run={run.path}", "checkpoint=last", cwd=where) == f"error: {run.last}: {wrong}"
    assert command("train.py", f"resume={run.path}", cwd=where).startswith(f"error: {run.last}: {wrong}")
    run.last.write_bytes(good)
    run.metrics.unlink()  # A run that has its scores is not translated again.
    assert command("train.py", f"resume={run.path}", cwd=where).startswith(f"error: {run.best}: {wrong}")
    assert not trap.sprung()
    torch.load(run.best, weights_only=False)
    assert trap.sprung(), "the trap is none"


# ---- All other files that are read -----------------------------------------------------------------------------------


def test_yaml_builds_no_objects(run: RunFolder, trap: Trap, tmp_path: Path) -> None:
    planted = f'seed: !!python/object/apply:os.mkdir ["{trap.marker}"]\n'
    yaml.load(planted, Loader=yaml.UnsafeLoader)
    assert trap.sprung(), "the trap is none"
    run.config.write_text(planted)
    with pytest.raises(UserError, match=r"run=.*: not a run folder \(.*config\.yaml: not a YAML file\)$"):
        open_run(str(run.path), "run")
    (tmp_path / "conf" / "ablation").mkdir(parents=True)
    (tmp_path / "conf" / "ablation" / "default.yaml").write_text(planted)
    with pytest.raises(UserError, match=r"default\.yaml: cannot be read"):
        load_ablation(tmp_path)
    assert not trap.sprung()


def test_no_file_of_a_run_is_unpickled(run: RunFolder, trap: Trap) -> None:
    readers: dict[Path, Callable[[Path], Any]] = {
        run.config: lambda file: open_run(str(file.parent), "run"),
        run.metrics: read_json,
        run.translations: read_translations,
        run.tracking: read_json,
    }
    for file, read in readers.items():
        as_pickle(trap, file)
        with pytest.raises(UserError):
            read(file)
    as_pickle(trap, run.curves)
    assert read_curves(run.curves) == []
    assert open_finished([str(run.path)])[0] == []
    assert not trap.sprung()


@pytest.fixture
def cached(tmp_path: Path) -> Callable[[], object]:
    """Return a function that reads a corpus, its vocabularies and its ids, from the cache if they are there."""
    config = compose_config(*SMALL)
    settings = build(TokenizerSettings, config["tokenizer"], "tokenizer")

    def read() -> object:
        corpus = load_corpus(config["data"], tmp_path / "cache")
        vocabularies = train_vocabularies(settings, corpus.splits["train"], corpus.digest, tmp_path / "cache")
        encoded = encode_corpus(corpus, vocabularies, tmp_path / "cache")
        return [corpus.splits["dev"][0], vocabularies.digest, len(encoded["dev"])]

    return read


def test_no_file_of_the_cache_is_unpickled(cached: Callable[[], object], tmp_path: Path, trap: Trap) -> None:
    """Replace each file by a planted one of the same size: an error names the folder, or the folder is built again."""
    whole = cached()
    files = sorted(file for file in (tmp_path / "cache").rglob("*") if file.is_file())
    assert len(files) > 12
    for file in files:
        before = file.read_bytes()
        as_pickle(trap, file)
        [folder] = [parent for parent in file.parents if parent.parent.parent == tmp_path / "cache"]
        if file.name != FILES:
            sizes = json.loads((folder / FILES).read_text())
            sizes[file.relative_to(folder).as_posix()] = file.stat().st_size
            (folder / FILES).write_text(json.dumps(sizes))
        if file.name == FILES:  # Its folder is built again.
            assert cached() == whole
        else:
            with pytest.raises(UserError, match=rf"^{folder}: damaged \([^\n]*$"):
                cached()
        if file.name != FILES:
            sizes[file.relative_to(folder).as_posix()] = len(before)
            (folder / FILES).write_text(json.dumps(sizes))
            file.write_bytes(before)
    assert not trap.sprung()


@pytest.mark.parametrize("content", ["[]", "3", '{"../../../../etc/passwd": 5}', "{}x"])
def test_a_malformed_list_of_files_rebuilds_the_folder(
    content: str, cached: Callable[[], object], tmp_path: Path
) -> None:
    whole = cached()
    for listing in (tmp_path / "cache").rglob(FILES):
        listing.write_text(content)
    assert cached() == whole


def test_a_vocabulary_is_not_a_pickle(trap: Trap) -> None:
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        Tokenizer(pickle.dumps(trap))
    assert not trap.sprung()


# ---- Datasets --------------------------------------------------------------------------------------------------------

ROWS = {"translation": [{"de": "Hund", "en": "dog"}]}


def pickled_extension(trap: Trap) -> pa.Table:
    """Return a table with a column of a pickled type, which pyarrow before 14 unpickled (CVE-2023-47248)."""
    table = pa.table(ROWS)
    planted = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(trap)}
    field = table.schema.field("translation").with_metadata(planted)
    return table.cast(pa.schema([field]))


def plant_script(folder: Path, trap: Trap) -> str:
    """Plant a loading script with the folder's name, which `datasets` before 4.0 would have run."""
    (folder / f"{folder.name}.py").write_text(f"import os; os.mkdir({str(trap.marker)!r})")
    return str(folder)


def plant_script_by_name(folder: Path, trap: Trap) -> str:
    return f"{plant_script(folder, trap)}/{folder.name}.py"


def plant_pickles(folder: Path, trap: Trap) -> str:
    for name in ("train", "validation", "test"):
        as_pickle(trap, folder / f"{name}.pkl")
    return str(folder)


def plant_pickles_here(folder: Path, trap: Trap) -> str:
    """Plant a pickle, which the format `pandas` of `datasets` before 5 would have unpickled."""
    plant_pickles(folder, trap)
    os.chdir(folder)
    return "pandas"


def plant_pickles_as_json(folder: Path, trap: Trap) -> str:
    for name in ("train", "validation", "test"):
        as_pickle(trap, folder / f"{name}.jsonl")
    return str(folder)


def plant_parquet(folder: Path, trap: Trap) -> str:
    for name in ("train", "validation", "test"):
        pq.write_table(pickled_extension(trap), folder / f"{name}.parquet")
    return str(folder)


def plant_arrow(folder: Path, trap: Trap) -> str:
    for name in ("train", "validation", "test"):
        table = pickled_extension(trap)
        with pa.OSFile(str(folder / f"{name}.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return str(folder)


def plant_features(folder: Path, trap: Trap) -> str:
    """Plant a card that names a Python object as the type of a column."""
    for name in ("train", "validation", "test"):
        (folder / f"{name}.jsonl").write_text(json.dumps({"translation": ROWS["translation"][0]}))
    feature = f"{{name: translation, dtype: !!python/object/apply:os.mkdir ['{trap.marker}']}}"
    (folder / "README.md").write_text(f"---\ndataset_info:\n  features: [{feature}]\n---\n")
    return str(folder)


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (plant_script, "scripts are no longer supported"),
        (plant_script_by_name, "scripts are no longer supported"),
        (plant_pickles, "cannot be loaded"),
        (plant_pickles_here, "data.path=pandas: names a file format, not a dataset"),
        (plant_pickles_as_json, "cannot be loaded"),
        (plant_parquet, None),
        (plant_arrow, None),
        (plant_features, "cannot be loaded"),
    ],
)
def test_no_dataset_runs_code(
    plant: Callable[[Path, Trap], str],
    message: str | None,
    trap: Trap,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A column of an unknown type is read as its storage type; all other datasets are refused."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    path = plant(tmp_path / "set", trap)
    options = compose_config("data=hub", f"data.path={path}", "data.source=de", "data.target=en")["data"]
    with pytest.raises(UserError) as refused:
        load_corpus(options, tmp_path / "cache")
    # All splits of the tables have the same row, which is read and then dropped from train.
    assert (message or "no pair in train (dropped: 1 leak") in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not trap.sprung()


# ---- Settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        "hydra.sweeper._target_=os.system",
        "hydra.launcher._target_=os.system",
        "+hydra.callbacks.x._target_=logging.FileHandler",
        "+hydra.callbacks.x={_target_: logging.FileHandler, filename: it_ran}",
        "+data._target_=os.system",
        "++_target_=os.system",
        "trainer={'_target_':os.system}",
    ],
)
@pytest.mark.parametrize("before", [[], ["-m", "seed=1,2"]])
def test_the_command_line_names_no_python_object(
    word: str, before: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *before, word])
    refused = r"^error: .*_target_.*: settings cannot name Python objects: choose a group's"
    with pytest.raises(SystemExit):
        check_command_line("config")
    assert re.match(refused, capsys.readouterr().err)
    monkeypatch.setattr(sys, "argv", ["translate.py", word])
    with pytest.raises(UserError, match=refused.replace("error: ", "")):
        read_command("translate", "run...")


def test_a_path_may_contain_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "cache=/data/my_target_/x", "run_dir=_target_dir"])
    check_command_line("config")


@pytest.mark.parametrize(
    "override",
    ["+data._target_=os.system", "+anything._target_=os.system", "+anything=[{deep: {_target_: os.system}}]"],
)
def test_composed_settings_name_no_python_object(override: str) -> None:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "conf")):
        composed = compose("config", overrides=[override])
    with pytest.raises(
        UserError, match=r"^\S*_target_=os.system: settings cannot name Python objects: remove the key$"
    ):
        plain_values(composed)


@pytest.mark.parametrize(
    "value",
    ["${oc.env:SECRET}", "a ${oc.env:NONE,${oc.env:SECRET}} b", '${oc.decode:"${oc.env:SECRET}"}', "${oc.${e}:SECRET}"],
)
def test_settings_do_not_read_the_environment(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are written to files, checkpoints and MLflow, and the variable would be written with them."""
    monkeypatch.setenv("SECRET", "'hunter2'")
    OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)  # An earlier test may have removed it.
    composed = OmegaConf.create({"group": {"key": value}, "e": "env"})
    assert "hunter2" in composed.group.key, "the reference is none"
    composed = OmegaConf.create({"group": {"key": value}, "e": "env"})
    with pytest.raises(UserError, match=r"^group\.key: [^\n]*oc\.env[^\n]*: settings are written to files") as refused:
        plain_values(composed)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("value", ["${nowhere}", "???", "${no.such.resolver:1}"])
def test_a_value_that_cannot_be_resolved_is_one_line(value: str) -> None:
    with pytest.raises(UserError, match=r"^group\.key: [^\n]+$"):
        plain_values(OmegaConf.create({"group": {"key": value}}))


@pytest.mark.parametrize(
    ("group", "content"),
    [
        ("callbacks", "x: {_target_: logging.FileHandler, filename: it_ran}"),
        pytest.param(
            "callbacks",
            "x: {_target_: hourglass.runs.folder.create_run, run_dir: it_ran, choices: [], continues: true}",
            marks=pytest.mark.more,
        ),
        ("job_logging", "version: 1\nhandlers: {x: {(): os.mkdir, path: it_ran}}\nroot: {handlers: [x]}"),
        pytest.param("sweeper", "_target_: os.mkdir\npath: it_ran", marks=pytest.mark.more),
    ],
)
@pytest.mark.slow
def test_no_config_file_makes_hydra_build_an_object(group: str, content: str, tmp_path: Path) -> None:
    """A malicious config folder with Hydra's own groups, which Hydra builds before the project's checks."""
    (tmp_path / "conf" / "hydra" / group).mkdir(parents=True)
    (tmp_path / "conf" / "hydra" / group / "planted.yaml").write_text(content)
    words = [f"hydra/{group}=planted", "resume=nowhere", *(["-m"] if group == "sweeper" else [])]
    done = run_script("src/train.py", "--config-dir", str(tmp_path / "conf"), *words, cwd=tmp_path)
    assert done.returncode != 0
    assert "whitelist" in done.stderr or "Unknown plugin class" in done.stderr
    assert not (tmp_path / "it_ran").exists()


def test_every_script_lets_hydra_build_nothing() -> None:
    """Each passes an empty list of targets; without a list, Hydra only warns."""
    scripts = [path for folder in ("src", "pipelines") for path in (ROOT / folder).glob("*.py")]
    decorators = [
        decorator
        for path in scripts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if "hydra.main" in ast.unparse(decorator)
    ]
    assert len(decorators) == 1  # Only src/train.py; the others compose settings, and build nothing.
    for decorator in decorators:
        assert isinstance(decorator, ast.Call)
        given = {word.arg: word.value for word in decorator.keywords}
        assert ast.literal_eval(given["execution_whitelist"]) == ()


# ---- Names that become paths -----------------------------------------------------------------------------------------


def test_names_do_not_leave_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("../../elsewhere", "/etc", "kjv_web/.."):
        with pytest.raises(UserError, match=r"^data\.name=.*: no such choice; choose from "):
            check_recipe({"name": name})
        with pytest.raises(UserError, match=r"not in the ablation"):
            load_ablation().variant(name, "none")
    monkeypatch.chdir(tmp_path)
    run = create_run(None, ["../../data/copy", "none", "s1"], continues=False)
    assert run.path.resolve().parent == tmp_path / "runs"


def test_a_search_chooses_among_its_candidates_only(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    ablation = load_ablation(tmp_path)
    corpus = next(iter(ablation.corpora))
    variant = Variant(corpus, ablation.settings.baseline)
    file = ablation.tuning_file(variant)
    file.parent.mkdir(parents=True)
    rates = ablation.tune.learning_rates
    for chosen in ([rate_word(rates[0])], [rate_word(4 * max(rates))]):
        file.write_text(json.dumps({"schema_version": SCHEMA_VERSION, "chosen": chosen, "candidates": []}))
        assert ablation.chosen(variant) == chosen
    for planted, message in (
        (["hydra.searchpath=[file:///tmp]"], "chosen is .*, which is no candidate of the search"),
        (["--config-dir=/tmp"], "chosen is .*, which is no candidate of the search"),
        ([3], r"chosen\.0: input should be a valid string"),
        ([rate_word(0.00123)], "chosen is .*, which is no candidate of the search"),
        (["cache=/tmp"], "chosen is .*, which is no candidate of the search"),
    ):
        file.write_text(json.dumps({"schema_version": SCHEMA_VERSION, "chosen": planted, "candidates": []}))
        with pytest.raises(UserError, match=rf"\.json: {message}: run dvc repro$"):
            ablation.chosen(variant)


# ---- The code itself -------------------------------------------------------------------------------------------------

MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle", "code"}
BARE = {"eval", "exec", "compile", "__import__"}
# The last part of a dotted name.
CALLS = {"system", "popen", "unsafe_load", "full_load", "load_all", "unsafe_load_all", "instantiate", "get_class"}
CALLS |= {"get_method", "get_object", "load_from_checkpoint", "read_pickle", "literal_eval", "get_static_method"}


def unsafe(text: str) -> list[str]:
    """Return the line and the name of each call in a Python file that could run data as code."""
    calls = []

    def note(node: Any, what: str) -> None:
        calls.append(f"{node.lineno}: {what}")

    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if (
                name.split(".")[0] in MODULES
                or name.split(".")[-1] in BARE | CALLS
                or name in ("torch.load", "yaml.load")
            ):
                note(node, name)
        if not isinstance(node, ast.Call):
            continue
        words = {word.arg: word.value for word in node.keywords}
        called = ast.unparse(node.func)
        last = called.split(".")[-1]
        if called in BARE or (last in CALLS and "." in called) or called in ("yaml.load",):
            note(node, called)
        if called.endswith("torch.load") and ast.unparse(words.get("weights_only", ast.Constant(None))) != "True":
            note(node, "torch.load")
        for word in ("shell", "allow_pickle", "trust_remote_code"):
            if word in words and ast.unparse(words[word]) != "False":
                note(node, f"{word}=")
        if last == "jit" or called.startswith("torch.jit.load"):
            note(node, called)
    return calls


SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])


def test_no_file_of_the_project_can_run_data_as_code() -> None:
    assert len(SOURCES) > 30
    assert {str(file.relative_to(ROOT)): unsafe(file.read_text()) for file in SOURCES if unsafe(file.read_text())} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as c",
        "import torch; torch.load(file)",
        "import torch; torch.load(file, weights_only=False)",
        "import torch; torch.load(file, weights_only=trusted)",
        "from torch import load",
        "np.load(file, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "from yaml import load",
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "hydra.utils.instantiate(config)",
        "from hydra.utils import instantiate",
        "load_dataset(path, trust_remote_code=True)",
        "Module.load_from_checkpoint(path)",
        "pd.read_pickle(path)",
    ],
)
def test_the_search_above_finds(line: str) -> None:
    assert unsafe(line)


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(file, weights_only=True)",
        "model.eval()",
        "np.load(file)",
        "yaml.safe_load(text)",
        "re.compile(text)",
    ],
)
def test_the_search_above_passes_over(line: str) -> None:
    assert not unsafe(line)
