"""The published systems of conf/experiment: each has the settings of its paper, trains and translates."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import CONF, ROOT, compose_config, run_script

from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.decoding.search import SearchSettings, search
from hourglass.models.build import build_model
from hourglass.training.settings import check_settings

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
GROUPS = [path.name for path in CONF.iterdir() if path.is_dir()]
SOURCE = torch.tensor([[5, 6, 7, 8, EOS], [9, 5, EOS, PAD, PAD]])
LENGTHS = torch.tensor([5, 3])
TARGET = torch.tensor([[BOS, 6, 5, EOS, PAD], [BOS, 7, 8, 9, EOS]])
# The settings of the papers, independently of the files.
APART = {"tokenizer.joint": False, "decoder.tie": "none"}  # a vocabulary and embeddings for each language
LUONG = APART | {
    "encoder.cell": "lstm",
    "encoder.layers": 4,
    "encoder.bidirectional": False,
    "encoder.reverse_source": True,
    "encoder.dropout": 0.2,
    "decoder.layers": 4,
    "decoder.input_feeding": True,
    "decoder.query": "current",
    "decoder.readout": "tanh",
    "decoder.start": "pass",
    "decoder.dropout": 0.2,
    "optimizer.name": "sgd",
    "optimizer.decay": "luong234",
    "optimizer.label_smoothing": 0.0,
    "init_range": 0.1,
}
TWO_LAYERS = {"cell": "lstm", "layers": 2, "hidden_size": 200, "dropout": 0.5}
ONE_LAYER = {"cell": "lstm", "layers": 1, "embedding_size": 128, "dropout": 0.0}
GATED = APART | {
    "encoder.cell": "gru_cho",
    "encoder.layers": 1,
    "encoder.dropout": 0.0,
    "decoder.cell": "gru_cho",
    "decoder.layers": 1,
    "decoder.query": "previous",
    "decoder.readout": "maxout",
    "decoder.start": "dense",
    "decoder.dropout": 0.0,
    "optimizer.name": "adadelta",
    "optimizer.rho": 0.95,
    "optimizer.epsilon": 1e-6,
    "optimizer.clip_norm": 1.0,
    "optimizer.label_smoothing": 0.0,
    "init_range": 0.0,
}
SEARCHING = GATED | {
    "attention.name": "bahdanau",
    "encoder.bidirectional": True,
    "encoder.summary_tanh": False,
}
FIXED = GATED | {"attention.name": "fixed", "encoder.bidirectional": False, "encoder.summary_tanh": True}
GNMT = {
    "encoder.cell": "lstm",
    "encoder.layers": 4,
    "encoder.bidirectional": "first",
    "encoder.residual_from": 3,
    "encoder.dropout": 0.2,
    "decoder.layers": 4,
    "decoder.residual_from": 3,
    "decoder.query_layer": "bottom",
    "decoder.context_to_all": True,
    "decoder.input_feeding": False,
    "decoder.readout": "state",
    "decoder.tie": "none",
    "decoder.dropout": 0.2,
    "optimizer.label_smoothing": 0.0,
}
TENSORFLOW = {
    "encoder.cell": "lstm",
    "encoder.dropout": 0.2,
    "decoder.dropout": 0.2,
    "decoder.start": "pass",
    "decoder.tie": "none",
    "optimizer.name": "sgd",
    "optimizer.label_smoothing": 0.0,
    "init_range": 0.1,
}
IWSLT15 = TENSORFLOW | {
    "attention.name": "luong_scaled",
    "encoder.layers": 2,
    "encoder.bidirectional": "split",
    "encoder.residual_from": 0,
    "decoder.layers": 2,
    "decoder.residual_from": 0,
    "decoder.query": "current",
    "decoder.input_feeding": True,
    "optimizer.decay": "luong234",
    "tokenizer.joint": False,
}
WMT16 = {"attention.name": "bahdanau_normed", "optimizer.decay": "luong10", "tokenizer.joint": True}
EXPECTED: dict[str, dict[str, Any]] = {
    "capacity": {"attention.name": "none", "data.calibrated": True, "decoder.start": "dense"},
    "capacity_fixed": {"attention.name": "fixed", "data.calibrated": True, "attention.width": 128},
    "capacity_attention": {"attention.name": "luong_general", "data.calibrated": True, "decoder.start": "zero"},
    "capacity_recall": {
        "attention.name": "none",
        "data.calibrated": True,
        "data.name": "recall",
        "decoder.start": "dense",
    },
    "language_model": {"encoder.name": "blind", "attention.name": "none"},
    "sutskever2014": APART
    | {
        "attention.name": "none",
        "encoder.cell": "lstm",
        "encoder.layers": 4,
        "encoder.bidirectional": False,
        "encoder.reverse_source": True,
        "encoder.dropout": 0.0,
        "decoder.layers": 4,
        "decoder.start": "pass",
        "decoder.readout": "state",
        "decoder.input_feeding": False,
        "decoder.dropout": 0.0,
        "optimizer.name": "sgd",
        "optimizer.label_smoothing": 0.0,
        "init_range": 0.08,
    },
    "cho2014": FIXED,
    "bahdanau2014": SEARCHING,
    "bahdanau2014_rnnsearch30": SEARCHING | {"data.longest": 30},
    "bahdanau2014_rnnsearch50": SEARCHING | {"data.longest": 50},
    "bahdanau2014_rnnencdec30": FIXED | {"data.longest": 30},
    "bahdanau2014_rnnencdec50": FIXED | {"data.longest": 50},
    "luong2015": LUONG | {"attention.name": "luong_general"},
    "luong2015_location": LUONG | {"attention.name": "luong_location"},
    "luong2015_dot": LUONG | {"attention.name": "luong_dot"},
    "luong2015_concat": LUONG | {"attention.name": "luong_concat"},
    "luong2015_local_m_dot": LUONG | {"attention.name": "luong_local_m", "attention.score": "dot"},
    "luong2015_local_m_general": LUONG | {"attention.name": "luong_local_m", "attention.score": "general"},
    "luong2015_local_p_dot": LUONG | {"attention.name": "luong_local_p", "attention.score": "dot"},
    "luong2015_local_p_general": LUONG | {"attention.name": "luong_local_p", "attention.score": "general"},
    "gnmt2016": GNMT
    | {
        "attention.name": "bahdanau",
        "decoder.query": "previous",
        "decoder.start": "zero",
        "optimizer.name": "adam",
        "optimizer.clip_norm": 5.0,
        "init_range": 0.04,
    },
    "scan2018": {
        **{"data.name": "scan", "metrics.main": "exact", "attention.name": "none", "decoder.tie": "none"},
        **{f"{side}.{option}": value for side in ("encoder", "decoder") for option, value in TWO_LAYERS.items()},
        **{"encoder.bidirectional": False, "encoder.reverse_source": False, "decoder.start": "pass"},
        **{"optimizer.name": "adam", "optimizer.learning_rate": 0.001, "optimizer.clip_norm": 5.0},
        **{"optimizer.decay": "none", "optimizer.label_smoothing": 0.0, "search.beam": 1},
    },
    "see2017": {
        **{
            "data.name": "docstrings",
            "metrics.main": "rouge_l",
            "attention.name": "bahdanau",
            "attention.query": "current",
        },
        **{
            "attention.coverage": True,
            "attention.coverage_loss": 1.0,
            "decoder.copy": True,
            "decoder.query": "current",
        },
        **{f"{side}.{option}": value for side in ("encoder", "decoder") for option, value in ONE_LAYER.items()},
        **{"encoder.hidden_size": 512, "decoder.hidden_size": 256, "encoder.bidirectional": True},
        **{"optimizer.clip_norm": 2.0, "optimizer.label_smoothing": 0.0, "tokenizer.joint": True},
    },
    "show_attend_tell2015": {
        **{"data.name": "shapes", "encoder.name": "features", "encoder.positions": "none", "encoder.summary": "mean"},
        **{"attention.name": "bahdanau", "decoder.query": "previous", "decoder.cell": "lstm", "decoder.start": "dense"},
        **{"decoder.gate_context": True, "decoder.doubly_stochastic": 1.0, "decoder.readout": "deep"},
        **{"decoder.tie": "none", "optimizer.name": "adam", "optimizer.decay": "none"},
        "optimizer.label_smoothing": 0.0,
    },
    "tensorflow_nmt": IWSLT15,
    "tensorflow_nmt_wmt16": IWSLT15 | WMT16 | {"encoder.layers": 4, "decoder.layers": 4},
    "tensorflow_nmt_gnmt": GNMT | TENSORFLOW | WMT16 | {"decoder.query": "previous"},
    "tensorflow_nmt_gnmt_v2": GNMT | TENSORFLOW | WMT16 | {"decoder.query": "current"},
}


def test_each_is_named_here_and_in_the_docs() -> None:
    assert sorted(EXPECTED) == EXPERIMENTS
    page = (ROOT / "docs" / "published.md").read_text()
    assert [name for name in EXPERIMENTS if f"`experiment={name}`" not in page] == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_is_what_its_paper_says_and_runs(name: str) -> None:
    """Check the settings, and with a tiny model that a training step changes every weight and that it translates."""
    config = compose_config(f"experiment={name}")
    for option, value in EXPECTED[name].items():
        *group, key = option.split(".")
        assert (config[group[0]] if group else config)[key] == value, option
    settings = check_settings(config)
    model = build_model(config, 12, 12, joint=settings.tokenizer.joint)
    width = config["data"].get("feature_size")
    source = SOURCE if width is None else torch.rand(*SOURCE.shape, width)
    model.loss(source, LENGTHS, TARGET, 0.1).smoothed.backward()
    idle = {name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert idle <= ({"decoder.bridge.weight"} if config["encoder"]["name"] == "blind" else set())
    few = SearchSettings(**{**vars(settings.search), "beam": 2, "output_most": 4})
    assert len(search(model.eval(), source, LENGTHS, few)) == 2


def settings_in_header(name: str) -> list[tuple[str, ...]]:
    """Return the settings that the head of a file of conf/experiment advises, those in a row together."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), (CONF / f"experiment/{name}.yaml").open())
    text = " ".join(line.removeprefix("#").strip() for line in lines)
    setting = rf"(?<![\w.}}])(?:{'|'.join(GROUPS)})(?:\.[a-z_]+)?=[^\s;,:)]+"
    rows = re.findall(rf"{setting}(?: {setting})*", text)
    return [tuple(word.rstrip(".") for word in row.split()) for row in rows if "data=text" not in row]  # Needs files.


@pytest.mark.parametrize(
    ("name", "words"), [(name, words) for name in EXPERIMENTS for words in settings_in_header(name)]
)
def test_what_a_header_advises_is_allowed(name: str, words: tuple[str, ...]) -> None:
    check_settings(compose_config(f"experiment={name}", *words))


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name[-1].isdigit() or "_nmt" in name])
def test_another_optimizer_takes_the_place_of_the_papers(name: str) -> None:
    config = compose_config(f"experiment={name}", "optimizer=adam")
    assert config["optimizer"]["learning_rate"] == compose_config()["optimizer"]["learning_rate"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_can_be_tried_in_seconds(name: str) -> None:
    smoke = compose_config("trainer=smoke")["trainer"]
    trainer = compose_config(f"experiment={name}", "trainer=smoke")["trainer"]
    assert {key for key in smoke if trainer[key] != smoke[key]} <= {"select"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["gnmt2016", "decoder.layers=1"],
            "decoder.query_layer=bottom: with decoder.layers=1",
        ),
        pytest.param(
            ["luong2015_dot", "decoder.hidden_size=128"],
            "decoder.hidden_size=128 is not encoder.hidden_size=256: make",
            marks=pytest.mark.more,
        ),
        pytest.param(
            ["sutskever2014", "encoder.layers=2"],
            "the encoder has 2 of h and c, each 256 wide, the decoder 4 of h and c, each 256 wide: make them equal",
            marks=pytest.mark.more,
        ),
        pytest.param(
            ["sutskever2014", "attention=luong_general"],
            "decoder.readout=state with decoder.query=current leaves the cont",
            marks=pytest.mark.more,
        ),
        pytest.param(
            ["luong2015_location", "attention.longest_source=3"],
            "has 3 source positions and a sentence of",
            marks=pytest.mark.more,
        ),
        pytest.param(
            ["luong2015_local_p_dot", "attention=bahdanau"],
            "attention.score: no such option; attention takes coverage, coverage_loss, size: leave it out (of an exp",
            marks=pytest.mark.more,
        ),
    ],
)
def test_a_contradiction_is_refused_by_name(
    tmp_path: Path, session_cache: Path, overrides: list[str], message: str
) -> None:
    name, *rest = overrides
    words = [f"experiment={name}", "trainer=smoke", "logger=none", f"cache={session_cache}", *rest]
    done = run_script("src/train.py", *words, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1]
