"""A folder outside the repository with an attention, an encoder, a cell, a corpus and a metric of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import SMALL, run_script

from hourglass.models.checkpoint import read_checkpoint
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json

MODULE = '''
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from hourglass.corpora.recipe import LimitedRecipe, Pair, Split
from hourglass.corpora.recipes import RECIPES
from hourglass.metrics.metric import Metric, References
from hourglass.metrics.metrics import METRICS
from hourglass.models.attention import ATTENTIONS, GeneralAttention, PreparedMemory, Sizes
from hourglass.models.cells import CELLS, Cell, CellState
from hourglass.models.encoder import ENCODERS, Encoder, EncoderSettings, Memory, mask_of
from scales import FIRST


@ATTENTIONS.register
class CosineAttention(GeneralAttention):
    name = "cosine"

    def __init__(self, sizes: Sizes, *, factor: PositiveInt):
        super().__init__(sizes)
        self.scale = nn.Parameter(torch.tensor(FIRST * factor))

    def keys(self, states: Tensor) -> Tensor:
        return nn.functional.normalize(super().keys(states), dim=-1)

    def scores(self, query: Tensor, prepared: PreparedMemory) -> Tensor:
        return self.scale * super().scores(nn.functional.normalize(query, dim=-1), prepared)


@dataclass(frozen=True, kw_only=True)
class AverageSettings(EncoderSettings):
    hidden_size: PositiveInt


@ENCODERS.register
class AverageEncoder(Encoder):
    name = "average"
    settings_class = AverageSettings

    def __init__(self, settings: AverageSettings, embedding: nn.Embedding, *, final_states: bool):
        super().__init__()
        self.embedding = embedding
        self.memory_size, self.summary_size = settings.hidden_size, settings.summary_size
        self.project = nn.Linear(embedding.embedding_dim, self.memory_size)
        self.summarise = nn.Linear(self.memory_size, self.summary_size)

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        mask = mask_of(lengths, source.shape[1])
        states = self.project(self.embedding(source)).tanh() * mask.unsqueeze(-1)
        return Memory(states, mask, lengths, self.summarise(states.sum(1) / lengths.unsqueeze(1)))


@CELLS.register
class ElmanCell(Cell):
    name = "elman"

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.input_layer = nn.Linear(input_size, hidden_size)
        self.state_layer = nn.Linear(hidden_size, hidden_size, bias=False)

    def bound_state(self, state: CellState) -> CellState:
        return (state[0].tanh(),)

    def project(self, inputs: Tensor) -> Tensor:
        return self.input_layer(inputs)

    def advance(self, projected: Tensor, state: CellState) -> CellState:
        return ((projected + self.state_layer(state[0])).tanh(),)


@RECIPES.register
@dataclass(frozen=True)
class Doubles(LimitedRecipe):
    """Words, each of them twice."""

    train_pairs: PositiveInt

    name = "doubles"

    def pairs(self, split: Split) -> Iterator[Pair]:
        for number in range(self.train_pairs if split == "train" else 20):
            words = [f"{split[0]}{(number * 7 + place) % 23}" for place in range(1 + number % 6)]
            yield Pair(f"{split}-{number}", " ".join(words), " ".join(w for w in words for _ in "12"), (split, split))


@METRICS.register
class Sentences(Metric):
    name = "count"
    heading = "n"
    digits = 0

    def statistics(self, hypotheses: Sequence[str], references: References, sources: Sequence[str]) -> np.ndarray:
        return np.ones((len(hypotheses), 1))

    def score(self, sums: np.ndarray) -> np.ndarray:
        return sums[..., 0]
'''
FILES = {
    "scales.py": "FIRST = 10.0\n",
    "conf/attention/cosine.yaml": "name: cosine\nquery: current\nfactor: 1\n",
    "conf/encoder/average.yaml": "name: average\nhidden_size: 256\nembedding_size: 192\nsummary_size: 256\n",
    "conf/data/doubles.yaml": (
        "name: doubles\nsource: de\ntarget: de\nvocabulary_size: 100\ntrain_pairs: 400\nlongest: 100\n"
    ),
    "conf/experiment/mine.yaml": (
        "# @package _global_\ndefaults:\n  - override /data: doubles\n  - override /attention: cosine\n"
        "  - override /encoder: average\nplugins: [own]\nmetrics:\n  others: [count]\ndecoder:\n  cell: elman\n"
    ),
}
TINY = [word for word in SMALL if not word.startswith("data")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the module `own` and its config files; commands run there."""
    place = tmp_path_factory.mktemp("outside")
    for name, text in {**FILES, "own.py": MODULE}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return place


@pytest.fixture(autouse=True)
def modules(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(place))


def run(script: str, *words: str, place: Path, stdin: bytes = b"", status: int = 0) -> tuple[str, str]:
    done = run_script(script, *words, cwd=place, stdin=stdin)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def train(place: Path, *words: str) -> tuple[str, str]:
    return run("src/train.py", "--config-dir", "conf", "experiment=mine", *TINY, *words, place=place)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plugins=[nowhere]"], "plugins=nowhere: no such module (No module named 'nowhere'): write PYTHONPATH=FOLDER"),
        (["plugins=[broken]"], "plugins=broken: ZeroDivisionError: division by zero ({place}/broken.py:2)"),
        (["attention.name=cosine"], "attention.name=cosine: no such choice; choose from bahdanau, "),
        (["-m", "plugins=[broken]", "seed=1,2"], "plugins=broken: ZeroDivisionError: division by zero ("),
        (["-m", "sweep=optuna", "plugins=[broken]"], "plugins=broken: ZeroDivisionError: division by zero ("),
    ],
)
def test_a_mistake_is_one_line_before_any_long_work(words: list[str], message: str, place: Path) -> None:
    (place / "broken.py").write_text("x = 1\nx /= 0\n")
    stdout, stderr = run("src/train.py", *words, place=place, status=1)
    assert stdout == ""
    (line,) = stderr.splitlines()
    assert line.startswith(f"error: {message.format(place=place)}")
    assert not (place / "cache").exists()


@pytest.fixture(scope="module")
def trained(place: Path) -> RunFolder:
    """Return a run with one extension of each kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(place))
        train(place, "run_dir=one", "logger=mlflow", "logger.tracking_uri=sqlite:///mlflow.db")
    return RunFolder(place / "one")


@pytest.mark.slow
def test_a_run_has_one_of_each_kind_and_their_digest(trained: RunFolder, place: Path) -> None:
    config = yaml.safe_load(trained.config.read_text())
    metrics, content = read_json(trained.metrics), read_checkpoint(trained.best)
    assert (config["plugins"], config["metrics"]["others"]) == (["own"], ["count"])
    registers = {"attention.name=cosine", "encoder.name=average", "cell=elman", "data.name=doubles", "metrics=count"}
    assert set(metrics["plugins"]["own"]["registers"]) == registers
    assert content["hourglass"]["plugins"] == metrics["plugins"]
    state = content["state_dict"]
    assert state["model.decoder.attention.scale"] != 10  # It starts at 10 and has been trained.
    assert any("state_layer" in name for name in state)
    assert "model.encoder.summarise.weight" in state
    assert metrics["corpus"]["name"] == "doubles"
    first = metrics["test"]["buckets"][0]
    assert (metrics["test"]["count"], first["count"]) == (20, first["sentences"])
    tags = read_json(trained.tracking)["tags"]
    assert tags["plugin own"] == metrics["plugins"]["own"]["digest"]
    assert (trained.model / "code" / "own.py").exists()  # The model of a tracked run is packed.


def without_plugin(line: str, where: str) -> None:
    assert line.startswith(f"error: {where}: needs plugins=[own]: it was made with a module that this package")


@pytest.mark.more
@pytest.mark.slow
def test_commands_open_the_run_with_its_plugin_alone(
    trained: RunFolder, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[list[str], bytes, str]] = [
        (["src/translate.py", "one"], b"t1 t2\n", "one/checkpoints/best.ckpt"),
        (["pipelines/explore.py", "one", "sentences=2"], b"", "one/checkpoints/best.ckpt"),
        (["src/pack.py", "one", "out=packed"], b"", "one/checkpoints/best.ckpt"),
        (["src/train.py", "resume=one"], b"", "resume=one"),
    ]
    for words, stdin, where in commands:
        _, stderr = run(*words, place=place, stdin=stdin, status=1)
        without_plugin(stderr.splitlines()[-1], where)
        run(*words, "plugins=[own]", place=place, stdin=stdin)
    stdout, _ = run("src/translate.py", "one", "plugins=own", "output=pharaoh", place=place, stdin=b"t1 t2\n")
    assert " ||| " in stdout
    # Without the module, there is nothing to be had.
    monkeypatch.setenv("PYTHONPATH", "")
    _, stderr = run("src/translate.py", "one", "plugins=own", place=place, status=1)
    assert stderr.startswith("error: plugins=own: no such module (No module named 'own')")


@pytest.mark.more
@pytest.mark.slow
def test_a_packed_model_has_the_sources_of_its_plugin(trained: RunFolder, place: Path, tmp_path: Path) -> None:
    """It translates in a process that has neither this repository nor the module."""
    run("src/pack.py", "one", f"out={tmp_path / 'packed'}", "plugins=[own]", place=place)
    model = yaml.safe_load((tmp_path / "packed" / "MLmodel").read_text())
    assert model["flavors"]["python_function"]["config"] == {"plugins": ["own"]}
    assert {file.name for file in (tmp_path / "packed" / "code").iterdir()} == {"hourglass", "own.py", "scales.py"}
    required = (tmp_path / "packed" / "requirements.txt").read_text().split()
    assert any(line.startswith("sacrebleu==") for line in required)  # Its metric imports it.
    code = (
        "import importlib.util, mlflow, pandas\n"
        "assert importlib.util.find_spec('own') is None\n"
        f"model = mlflow.pyfunc.load_model({str(tmp_path / 'packed')!r})\n"
        "print(list(model.predict(pandas.DataFrame({'source': ['t1 t2', 't3']})).translation))\n"
    )
    environment = {**os.environ, "PYTHONPATH": ""}
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stdout, _ = run("src/translate.py", "one", "plugins=own", place=place, stdin=b"t1 t2\nt3\n")
    assert done.stdout.splitlines()[-1] == str(stdout.splitlines())


@pytest.mark.more
@pytest.mark.slow
def test_a_changed_plugin_is_noticed(place: Path) -> None:
    """Resume goes on with a warning, as for other code; if_exists=continue refuses; translate warns."""
    for name in ("two", "three"):
        train(place, f"run_dir={name}", "trainer.target_tokens=2000")
    scales = place / "scales.py"
    before = scales.read_text()
    try:
        scales.write_text(f"{before}# changed\n")
        _, stderr = run("src/train.py", "resume=two", "plugins=[own]", place=place)
        assert (
            "two/checkpoints/last.ckpt: plugins=[own] has changed since: the training goes on with other code" in stderr
        )
        _, stderr = run("src/translate.py", "two", "plugins=own", place=place, stdin=b"t1\n")
        assert "two/checkpoints/best.ckpt: plugins=[own] has changed since this training" in stderr
        words = ["run_dir=three", "trainer.target_tokens=2000"]
        line = "--config-dir", "conf", "experiment=mine", *TINY, *words, "if_exists=continue"
        _, stderr = run("src/train.py", *line, place=place, status=1)
        assert "three/checkpoints/last.ckpt: the checkpoint is of other code of plugins=[own]: train on with" in stderr
        _, stderr = train(place, *words, "if_exists=continue_or_replace")
        assert (
            "training starts anew: three/checkpoints/last.ckpt: the checkpoint is of other code of plugins=[own]"
            in (stderr)
        )
    finally:
        scales.write_text(before)


@pytest.mark.more
@pytest.mark.slow
def test_children_load_the_plugin(place: Path) -> None:
    """The jobs of a multirun, and the processes of DDP."""
    stdout, _ = train(place, "-m", "seed=1,2", "trainer.target_tokens=1000")
    assert stdout.count("\nrun: ") == 2
    train(place, "run_dir=spawned", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", *TINY)
    assert "own" in read_json(RunFolder(place / "spawned").metrics)["plugins"]


@pytest.mark.slow
def test_a_strange_run_makes_nothing_be_imported(trained: RunFolder, place: Path) -> None:
    """Neither its config.yaml nor its checkpoints; only the word plugins= of a command line does."""
    strange = RunFolder(place / "strange")
    run("src/pack.py", "one", "plugins=own", "out=unused", place=place)
    subprocess.run(["cp", "-r", str(trained.path), str(strange.path)], check=True)
    (place / "evil.py").write_text(f"open({str(place / 'it_ran')!r}, 'w')\n")
    strange.config.write_text(strange.config.read_text().replace("- own", "- evil"))
    for file in (strange.best, strange.last):
        content: dict[str, Any] = torch.load(file, weights_only=True)
        record = json.loads(json.dumps(content["hourglass"]["plugins"]).replace('"own"', '"evil"'))
        content["hourglass"] |= {"plugins": record}
        content["hourglass"]["config"]["plugins"] = ["evil"]
        torch.save(content, file)
    for words in (
        ["src/train.py", "resume=strange"],
        ["src/translate.py", "strange"],
        ["src/pack.py", "strange", "out=stolen"],
        ["pipelines/explore.py", "strange"],
    ):
        _, stderr = run(*words, place=place, status=1)
        assert "needs plugins=[evil]: " in stderr.splitlines()[-1]
    assert not (place / "it_ran").exists()
    _, stderr = run("src/translate.py", "strange", "plugins=evil", place=place, status=1)
    assert "registers nothing" in stderr
    assert (place / "it_ran").exists(), "the trap is none"
