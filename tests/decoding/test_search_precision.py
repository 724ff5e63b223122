"""Searches in bfloat16 and with a quantised decoder, against float32; and what is refused."""

import itertools
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from helpers import ATTENTION_NAMES, plain_search, tiny_config, tiny_model
from torch import Tensor

import hourglass.decoding.precision as precision_module
from hourglass.data.pieces import BOS, EOS, FIXED_PIECES
from hourglass.decoding.precision import PRECISIONS, SearchPrecision, convert, in_precision, precision_of
from hourglass.decoding.search import Hypothesis, SearchSettings, n_best, search
from hourglass.errors import UserError
from hourglass.metrics.translation import bleu
from hourglass.models.build import build_model
from hourglass.models.cells import CELLS, LSTM
from hourglass.models.quantised import QUANTISED_CELLS
from hourglass.models.seq2seq import Seq2Seq
from hourglass.training.settings import check_settings, check_to_read

V, S, B = 16, 6, 40
REDUCED: tuple[SearchPrecision, ...] = ("bf16", "int8")
# Both orders of a step: decoder.query.
ORDERS = ("current", "previous")
# Combinations that .ci/run compares; the others are marked `more`. Both orders have cells that can be quantised and
# cells that cannot, and each of the four attentions; which other setting is beside an order alters no rounding.
FEW = [("luong_general", "lstm", "current"), ("bahdanau", "gru_cho", "previous"), ("none", "lstm_normed", "current")]
FEW += [("fixed", "gru", "previous"), ("luong_general", "min_gru", "previous"), ("bahdanau", "mlstm", "current")]
FEW += [("none", "delta_net", "previous"), ("fixed", "selective_ssm", "current")]


def batch(seed: int) -> tuple[Tensor, Tensor]:
    """Return sources [B, S] of random pieces, and their lengths."""
    ids = torch.randint(FIXED_PIECES, V, (B, S), generator=torch.Generator().manual_seed(seed))
    ids[:, -1] = EOS
    return ids, torch.full((B,), S)


@cache
def trained_model(attention: str, cell: str, query: str) -> Seq2Seq:
    """Return a model that has learnt, more or less, to copy its source."""
    torch.manual_seed(1)
    changes: dict[str, Any] = {"encoder.cell": cell, "decoder.cell": cell, "decoder.query": query}
    changes |= {"decoder.input_feeding": query == "current", "encoder.dropout": 0.0, "decoder.dropout": 0.0}
    model = build_model(tiny_config(attention, changes), V, V, joint=True)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(100):
        source, lengths = batch(step)
        target = torch.cat([torch.full((B, 1), BOS), source], 1)
        optimizer.zero_grad()
        (model.loss(source, lengths, target).smoothed / target.numel()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def agreement(first: list[Hypothesis], second: list[Hypothesis]) -> float:
    """Return the BLEU of one set of translations with another as their references."""
    lines = [[" ".join(map(str, hypothesis.tokens)) for hypothesis in part] for part in (first, second)]
    return bleu(lines[0], lines[1], "en")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attention", "cell", "query"),
    [
        pytest.param(*combination, marks=[] if combination in FEW else [pytest.mark.more])
        for combination in itertools.product(ATTENTION_NAMES, CELLS, ORDERS)
    ],
)
def test_whole_searches_agree_with_float32(attention: str, cell: str, query: str) -> None:
    """Greedily and with a beam."""
    source, lengths = batch(10_000)
    model = trained_model(attention, cell, query)
    for beam in (1, 4):
        options = plain_search(beam)
        expected = search(model, source, lengths, options)
        for precision in REDUCED if CELLS[cell] in QUANTISED_CELLS else ("bf16",):
            result = search(convert(model, precision), source, lengths, replace(options, precision=precision))
            score = agreement(result, expected)
            assert score > 70, f"{precision}, beam {beam}: {score:.1f} BLEU with float32 as the reference"


@pytest.mark.parametrize("precision", REDUCED)
@pytest.mark.parametrize(("cell", "attention"), [("lstm", "luong_general"), ("gru_cho", "bahdanau")])
def test_a_short_search_is_that_of_float32_within_rounding(
    cell: str, attention: str, precision: SearchPrecision
) -> None:
    """The first step of a search has no choices before it that rounding could change."""
    changes = {"decoder.cell": cell, "decoder.layers": 2, "decoder.input_feeding": True}
    model = tiny_model(attention, changes, vocabulary=V).float()
    source, lengths = batch(0)
    options = plain_search(4, output_most=1)
    lists = n_best([model], source, lengths, options, 4)
    reduced = n_best([convert(model, precision)], source, lengths, replace(options, precision=precision), 4)
    for best, other in zip(lists, reduced, strict=True):
        scores = {tuple(each.tokens): each.log_probability for each in best}
        both = [each for each in other if tuple(each.tokens) in scores]
        shared = [abs(scores[tuple(each.tokens)] - each.log_probability) for each in both]
        assert len(shared) >= 3
        assert 0 < max(shared) < 0.1


def test_a_quantised_search_of_one_sentence_is_that_of_a_batch() -> None:
    """Rows are quantised each by itself: what is beside a sentence does not matter."""
    model = convert(tiny_model("luong_general", {"decoder.input_feeding": True}, vocabulary=V).float(), "int8")
    source, lengths = batch(0)
    options = plain_search(3, precision="int8")
    together = search(model, source, lengths, options)
    for b in range(8):
        (alone,) = search(model, source[b : b + 1], lengths[b : b + 1], options)
        assert alone.tokens == together[b].tokens
        assert alone.log_probability == pytest.approx(together[b].log_probability, abs=1e-4)


def test_float32_is_the_model_itself() -> None:
    model = tiny_model().float()
    assert in_precision(model, 32) is model
    quantised = in_precision(model, "int8")
    assert in_precision(quantised, "int8") is quantised
    assert [precision_of(each) for each in (model, convert(model, "bf16"), quantised)] == list(PRECISIONS)
    assert precision_of(model.double()) == 32
    with pytest.raises(ValueError, match=r"a model in int8 cannot be converted to 32"):
        in_precision(quantised, 32)


def test_a_search_refuses_a_model_of_another_precision() -> None:
    """Otherwise a caller that forgets to convert reports float32 as int8."""
    source, lengths = batch(0)
    with pytest.raises(ValueError, match=r"a model in 32, and search\.precision=int8"):
        search(tiny_model().float(), source, lengths, plain_search(1, precision="int8"))


class Other(LSTM):
    """A cell of a plugin, without a quantised form."""

    name = "other"


def test_what_a_machine_or_a_model_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model().float()
    monkeypatch.setattr(precision_module, "bfloat16_instructions", list)
    with pytest.raises(UserError, match=r"^search\.precision=bf16: this CPU, .*, has neither avx512_bf16 nor amx_bf16"):
        in_precision(model, "bf16")
    monkeypatch.setattr(precision_module, "bfloat16_instructions", lambda: ["avx512_bf16"])
    assert precision_of(in_precision(model, "bf16")) == "bf16"
    rounded = tiny_model("none", {"encoder.summary_bits": 4}).float()
    with pytest.raises(UserError, match=r"^search\.precision=bf16 rounds the summary to 8 bits, .*summary_bits=4"):
        in_precision(rounded, "bf16")
    assert precision_of(in_precision(rounded, "int8")) == "int8"
    with pytest.raises(UserError, match=r"^search\.precision=int8 is for CPUs, and this search runs on cuda"):
        precision_module.check_machine("int8", torch.device("cuda"))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    with pytest.raises(UserError, match=r"^search\.precision=int8: this CPU, .*, has neither avx2 nor avx512"):
        in_precision(model, "int8")
    monkeypatch.undo()
    model.decoder.cell.__class__ = Other
    with pytest.raises(UserError, match=r"^search\.precision=int8: decoder\.cell=other has no quantised form"):
        in_precision(model, "int8")


def test_a_run_is_refused_before_its_data_are_read_and_can_still_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    assert config["search"]["precision"] == 32
    config["search"]["precision"] = "bf16"
    monkeypatch.setattr(precision_module, "bfloat16_instructions", list)
    with pytest.raises(UserError, match=r"^search\.precision=bf16: this CPU"):
        check_settings(config)
    assert check_to_read(config).search.precision == "bf16"
    config["search"]["precision"] = "int4"
    with pytest.raises(UserError, match=r"^search\.precision=int4: input should be 32, 'bf16' or 'int8'"):
        check_settings(config)


def test_dev_is_decoded_in_the_precision_of_the_search() -> None:
    options = plain_search(5, precision="int8")
    assert options.greedy.precision == "int8"
    assert SearchSettings(**{key: value for key, value in vars(options).items() if key != "precision"}).precision == 32
