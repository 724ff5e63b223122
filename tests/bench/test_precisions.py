"""bench.py precisions and bench.py profile: both precisions in one run, and where the time of a step goes."""

import dataclasses
import functools
import json
from types import SimpleNamespace

import pytest
import torch
from helpers import bench_settings

from hourglass.bench import precisions
from hourglass.bench.measurements import PRECISION, PROFILE
from hourglass.bench.precisions import (
    ADDS,
    CASTS,
    COPIES,
    DROPOUT,
    FILLS,
    OPTIMIZER,
    OTHER,
    PARTS,
    PRODUCTS,
    PYTHON,
    SOFTMAX,
    VIEWS,
    measure_parts,
    measure_precisions,
    profile_step,
    sum_parts,
)
from hourglass.bench.settings import BenchSettings
from hourglass.bench.steps import make_training_step

SIZES = (
    "data.vocabulary_size=40",
    "encoder.hidden_size=8",
    "encoder.embedding_size=4",
    "decoder.embedding_size=4",
    "decoder.readout_size=4",
    "decoder.hidden_size=8",
    "trainer.batch_tokens=12",
)


def small_settings() -> BenchSettings:
    settings = bench_settings()
    names = settings.default_variants
    return dataclasses.replace(
        settings,
        overrides=[*settings.overrides, *SIZES],
        decoder_sizes=[4],
        default_variants={name: f"{' '.join(SIZES)} {words}" for name, words in names.items()},
        default_length=3,
        rounds=2,
        seconds=0.001,
    )


@pytest.mark.slow
def test_both_precisions_are_measured_in_turns(capsys: pytest.CaptureFixture[str]) -> None:
    settings = small_settings()
    measure_precisions(settings)
    lines = {line["what"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    kinds = [*settings.default_variants, "general feeding, decoder 4"]
    assert len(lines) == 3 * len(kinds)
    for kind in kinds:
        whole, half = (lines[f"{PRECISION}{kind}: {precision}"]["all"] for precision in ("32-true", "bf16-mixed"))
        ratio = lines[f"{PRECISION}{kind}: bf16-mixed over 32-true"]
        assert ratio["all"] == pytest.approx([half[0] / whole[0], half[1] / whole[1]])


@pytest.mark.slow
def test_the_parts_of_a_step_are_all_of_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In both precisions, of which float32 has no casts of weights."""
    monkeypatch.setattr(precisions, "bfloat16_instructions", lambda: ["avx512_bf16"])
    monkeypatch.setattr(precisions, "median_seconds", lambda *_: 0.1)
    monkeypatch.setattr(precisions, "profile_step", functools.partial(profile_step, repetitions=1))
    settings = dataclasses.replace(small_settings(), rounds=1)
    settings = dataclasses.replace(settings, default_variants=dict([next(iter(settings.default_variants.items()))]))
    measure_parts(settings)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2 * 2 * len(PARTS)
    for kind in ("default settings, 32-true", "general feeding, decoder 4, bf16-mixed"):
        shares = {part: line["value"] for line in lines for part in PARTS if line["what"] == f"{PROFILE}{kind}: {part}"}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
        assert all(share > 0 for part, share in shares.items() if part != CASTS)
    casts = [line["value"] for line in lines if line["what"].endswith(CASTS)]
    assert casts[0] < casts[1]


def test_an_operation_belongs_to_the_part_that_calls_it() -> None:
    def event(name: str, parent: SimpleNamespace | None, microseconds: float) -> SimpleNamespace:
        return SimpleNamespace(name=name, cpu_parent=parent, self_cpu_time_total=microseconds)

    engine = event("autograd::engine::evaluate_function: AddmmBackward0", None, 1000)
    node = event("AddmmBackward0", engine, 1000)
    cast = event("aten::_to_copy", event("aten::to", None, 0), 0)
    optimizer = event("Optimizer.step#Adam.step", None, 1000)
    dropout = event("aten::dropout", None, 1)
    expected = {
        PRODUCTS: [event("aten::mm", node, 2), event("aten::mkldnn_rnn_layer", None, 4)],
        ADDS: [event("aten::add_", engine, 8)],
        OTHER: [event("aten::add", node, 16), event("aten::tanh", None, 32)],
        CASTS: [event("aten::copy_", cast, 64)],
        COPIES: [event("aten::copy_", None, 128)],
        FILLS: [event("aten::fill_", event("aten::sum", engine, 0), 256)],
        OPTIMIZER: [event("aten::mul_", event("aten::_foreach_mul_", None, 0), 512), event("aten::add_", optimizer, 3)],
        DROPOUT: [dropout, event("aten::div_", dropout, 5)],
        SOFTMAX: [event("aten::_log_softmax", event("aten::log_softmax", None, 0), 7)],
        VIEWS: [event("aten::transpose", event("aten::t", None, 0), 9)],
    }
    assert {*expected, PYTHON} == set(PARTS)
    for part, events in expected.items():
        assert sum_parts([*events, engine, node, optimizer]) == {part: sum(each.self_cpu_time_total for each in events)}


def test_products_take_most_of_a_step_of_large_products() -> None:
    layer = torch.nn.Linear(600, 600)
    layer.loss = lambda source, lengths, target: SimpleNamespace(smoothed=layer(source).sum())  # type: ignore[assignment]
    step = make_training_step(layer)  # type: ignore[arg-type]
    batch = torch.randn(2000, 600), torch.ones(1), torch.ones(2, 3)
    shares = profile_step(lambda: step(batch), repetitions=2)
    assert shares[PRODUCTS] > 0.5
