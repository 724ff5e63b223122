"""The counts that speed hangs on (calls of a training step, logits that exist at once), and the table of speeds.

Seconds are measured by pipelines/bench.py, and never asserted.
"""

import dataclasses
import itertools
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import CONF, ROOT, compose_config, tiny_model, write_multi30k
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hourglass.bench.bare import BareCalls, PlainLoop
from hourglass.bench.clock import count_work
from hourglass.bench.tables import LIMIT, ON_GPU_TRAINING, GpuPeer, Peer, Peers, compare, compare_gpu, hold, judge
from hourglass.config.options import build
from hourglass.data.pieces import BOS, EOS, FIXED_PIECES
from hourglass.decoding.search import SearchSettings, search
from hourglass.errors import UserError
from hourglass.models import seq2seq
from hourglass.models.build import build_model
from hourglass.models.seq2seq import Seq2Seq
from hourglass.system.project import code_version

V = 50
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mkldnn_rnn_layer", "mkldnn_rnn_layer_backward")
SMALL = ("encoder.hidden_size=32", "decoder.hidden_size=32", "decoder.readout_size=32", "decoder.tie=none")


class Calls(TorchDispatchMode):
    """Counts the library's calls by name, and notes the largest tensor whose rows are logits."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.logit_rows = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[function.overloadpacket.__name__] += 1
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple) else (found,):
            if isinstance(one, Tensor) and one.shape[-1:] == (V,) and one.is_floating_point():
                self.logit_rows = max(self.logit_rows, one.numel() // V)
        return found


def calls_of_a_step(model: Seq2Seq, target_length: int, sentences: int = 3) -> Calls:
    """Count the calls of a forward and a backward pass."""
    ids = torch.randint(FIXED_PIECES, V, (sentences, 5 + target_length))
    ids[:, 4] = ids[:, -1] = EOS
    target = torch.cat([torch.full((sentences, 1), BOS), ids[:, 5:]], 1)
    model.zero_grad()
    with Calls() as calls:
        model.loss(ids[:, :5], torch.full((sentences,), 5), target, smoothing=0.1).smoothed.backward()
    return calls


def make(*words: str) -> Seq2Seq:
    return build_model(compose_config(*SMALL, *words), V, V, joint=False)


@pytest.mark.parametrize("attention", ["none", "fixed", "mean", "luong_general", "luong_concat", "luong_local_p"])
def test_a_known_target_is_read_in_as_many_calls_however_long(attention: str) -> None:
    model = make(f"attention={attention}")
    short, long = (calls_of_a_step(model, length).count for length in (6, 12))
    assert long == short
    assert short["mkldnn_rnn_layer"] == 3  # Two directions of the encoder, one of the decoder.


# Products forward, and two backward for each of them.
@pytest.mark.parametrize(
    ("words", "products", "calls"),
    [
        # Queries and context; LSTM of input and of state; readout.
        (("attention=luong_general", "decoder.input_feeding=true"), 15, 140),
        (("attention=bahdanau",), 12, 150),  # Nothing is fed: what is read out is read out at once.
    ],
)
def test_a_step_of_the_loop_makes_few_calls(words: tuple[str, ...], products: int, calls: int) -> None:
    """What does not hang on the step before is outside the loop: source keys, the output layer."""
    model = make(*words)
    short, long = (calls_of_a_step(model, length).count for length in (6, 12))
    grown = {name: (long[name] - short[name]) / 6 for name in long}
    assert sum(grown[name] for name in PRODUCTS if name in grown) <= products
    assert sum(grown.values()) <= calls


@pytest.mark.parametrize("beam", [1, 5])
def test_a_step_of_a_search_makes_few_calls(beam: int) -> None:
    """Keys are not projected again, and there is one row of logits for each beam."""
    model = make("attention=luong_general", "decoder.input_feeding=true").eval()
    with torch.no_grad():
        model.output.bias[EOS] = -1e9  # None ends before its limit.
    sentences = 3
    source = torch.randint(FIXED_PIECES, V, (sentences, 5))

    def count(steps: int) -> Counter[str]:
        options = compose_config(f"search.beam={beam}", f"search.output_most={steps}")["search"]
        settings = build(SearchSettings, options, "search")
        with Calls() as found:
            translations = search(model, source, torch.full((sentences,), 5), settings)
        assert [len(one.tokens) for one in translations] == [steps] * sentences
        assert found.logit_rows == sentences * beam
        return found.count

    short, long = count(6), count(12)
    grown = {name: (long[name] - short[name]) / 6 for name in long}
    # Word, state and fed readout into the gates; queries and context; readout; output layer.
    # (Inference does not take linear and matmul apart.)
    assert sum(grown.get(name, 0) for name in (*PRODUCTS, "linear", "matmul")) == 7
    assert sum(grown.values()) <= 140


def test_the_logits_that_exist_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("attention=luong_general", "decoder.readout_size=16")
    assert calls_of_a_step(model, 12, sentences=8).logit_rows == 12 * 8
    monkeypatch.setattr(seq2seq, "LOGIT_ROWS", 20)
    calls = calls_of_a_step(model, 12, sentences=8)
    # (The weights of the output layer, turned for the product, look like 16 rows of logits.)
    assert calls.logit_rows == 20


def test_work_is_counted_as_by_hand() -> None:
    """A product counts twice its sizes; a recurrent layer its two, forward, and twice that backward."""
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    assert count_work(lambda: a @ b) == 2 * 3 * 5 * 7
    layer, inputs = torch.nn.LSTM(6, 4, batch_first=True), torch.randn(2, 9, 6)
    forward = 2 * (2 * 9) * (16 * 6 + 16 * 4)
    with torch.no_grad():
        assert count_work(lambda: layer(inputs)) == forward
    assert count_work(lambda: layer(inputs)[0].sum().backward()) == 3 * forward


def test_the_table_has_the_target_that_applies() -> None:
    peers = [Peer("slow", "training, x, decoder 4", 100, 3), Peer("quick", "training, x, decoder 4", 1000, 3)]
    line = {"what": "training, x, decoder 4", "unit": "target tokens/s", "work": 2.0}
    first = {**line, "value": 200, "all": [200], "step_rates": [1000.0]}
    # 60 % of 1,000 operations a second are 300 tokens of 2 each; each round has its own rate.
    last = {**line, "value": 300, "all": [100, 300, 500], "step_rates": [800.0, 1000.0, 1250.0]}
    lines = [first, {"what": "a rate", "value": 1, "unit": "GFLOP/s"}, last]
    _, *rows = compare(lines, peers, 0.6)
    own = ["training, x, decoder 4", "300 target tokens", "60 % (25 to 80)", "48.0 %"]
    assert rows == [
        [*own, "slow", "100 (20 %)", "3.00", "300 (60 % of the rate)", "yes"],
        [*own, "quick", "1,000 (200 %)", "0.30", "300 (60 % of the rate)", "yes"],
    ]
    disturbed = {**last, "step_rates": [800.0, 1250.0, 1250.0]}  # The round of the middle reached 48 % of its own rate.
    assert compare([disturbed], peers, 0.6)[1][2:] == [
        "48 % (25 to 80)",
        "48.0 %",
        "slow",
        "100 (16 %)",
        "3.00",
        "300 (3 times)",
        "yes",
    ]
    assert compare([disturbed], peers, 0.6)[2][7:] == ["375 (60 % of the rate)", "no"]
    assert compare(lines[:1], peers[:1], 0.9)[1][6:] == ["2.00", "300 (3 times)", "no"]
    assert compare(lines[:1], [], 0.9)[1][4:] == [""] * 5
    # The best rate may be another variant's of the same size, or the other search's.
    other = {**last, "what": "training, y, decoder 4", "step_rates": [2000.0] * 3}
    wider = {**last, "what": "training, x, decoder 8", "step_rates": [1000.0] * 3}
    searches = [
        {**last, "what": f"decoding, {one}", "step_rates": [rate] * 3} for one, rate in (("greedy", 1500), ("b", 1200))
    ]
    shares = [row[3] for row in compare([last, other, wider, *searches], [], 0.6)[1:]]
    assert shares == ["30.0 %", "30.0 %", "60.0 %", "40.0 %", "40.0 %"]


def test_what_else_is_asked_is_judged() -> None:
    asked = Peers([], 100, 0.6, {"x": 0.5, "x y": 0.4}, {"z": "x"}, 0.05, {}, [])
    limits = [{"what": f"{LIMIT}{one}, decoder 4", "value": 0.45, "all": [0.3, 0.45, 0.6]} for one in ("x", "x y")]
    speeds = [
        {"what": f"training, {one}, decoder {size}", "value": value, "padding": padding}
        for one, size, value, padding in (("x", 4, 100, 0.01), ("z", 4, 99, 0.04), ("x", 8, 10, 0.0), ("z", 8, 10, 0.0))
    ]
    _, *rows = judge([*limits, *speeds], asked)
    assert rows == [
        [f"{LIMIT}x, decoder 4", "45 % (30 to 60)", "at least 50 %", "no"],
        [f"{LIMIT}x y, decoder 4", "45 % (30 to 60)", "at least 40 %", "yes"],
        ["training, z, decoder 4: times the speed of x", "0.99", "at least 1", "no"],
        ["training, z, decoder 8: times the speed of x", "1.00", "at least 1", "yes"],
        ["padding in training, the variant with most", "4.0 %", "under 5 %", "yes"],
    ]
    # Times a token are no speeds.
    grown = [{"what": f"training, {one}, us/target token by tokens a sentence", "value": 1} for one in ("x", "z")]
    assert judge([*limits, *speeds, *grown], asked)[1:] == rows
    speeds[1]["padding"] = 0.05
    assert judge(speeds, asked)[-1][1:] == ["5.0 %", "under 5 %", "no"]


def test_peers_are_of_what_is_measured() -> None:
    settings = yaml.safe_load((CONF / "bench.yaml").read_text())
    # The peers have no fixed context.
    variants = [one for one in settings["variants"] if one not in ("none", "fixed")]
    trained = [f"training, {one}, decoder {size}" for one in variants for size in settings["decoder_sizes"]]
    peers = yaml.safe_load((CONF / "peers.yaml").read_text())["peers"]
    assert {peer["what"] for peer in peers} == {*trained, "decoding, greedy", "decoding, beam 5"}
    asked = yaml.safe_load((CONF / "peers.yaml").read_text())
    on_gpu = itertools.product(variants, settings["decoder_sizes"], settings["device_precisions"])
    names = {f"{ON_GPU_TRAINING}{one}, decoder {size}, {precision}" for one, size, precision in on_gpu}
    assert {peer["what"] for peer in asked["gpu"]} <= names
    assert set(asked["limits"]) == set(settings["variants"])
    assert {*asked["no_slower"], *asked["no_slower"].values()} <= set(settings["variants"])


@pytest.mark.slow
def test_trainings_and_translations_are_timed_and_stand_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "pipelines")
    import bench

    monkeypatch.setattr(bench, "PIECES", 50)
    monkeypatch.setattr("hourglass.bench.clock.MEASURED", 0.01)
    small = bench.BenchSettings(
        **{
            **yaml.safe_load((CONF / "bench.yaml").read_text()),
            "decoder_sizes": [16],
            "variants": {"general feeding": "attention=luong_general decoder.input_feeding=true"},
            "target_tokens": 500,
            "decoded_target_tokens": 2000,
            "exact": 3,
            "rounds": 2,
            "lengths": [3, 6],
            "device_sentences": [2],
            "device_precisions": ["32-true", "bf16-mixed"],
            "gpu_target_tokens": 600,
        }
    )
    small.overrides.extend(["data.vocabulary_size=60", "encoder.hidden_size=16", "trainer.batch_tokens=200"])
    folder, run = str(tmp_path / "raw"), str(tmp_path / "run")
    write_multi30k(tmp_path / "raw")
    bench.train(dataclasses.replace(small, rounds=1), folder)
    bench.train_decoded(small, folder, run)
    bench.decode(small, folder, run)
    bench.exact(small, folder, run)
    bench.limit(small)
    bench.device(small, "cpu")
    bench.lengths(small, "general feeding")
    whole = dataclasses.replace(small, device_precisions=["32-true"], rounds=1)
    bench.train_wholly(whole, folder, "trainer=cpu", "a card")
    printed = capsys.readouterr().out
    lines = {line["what"]: line for line in map(json.loads, printed.splitlines())}
    for what in ("training, general feeding, decoder 16", "decoding, greedy", "decoding, beam 5"):
        line = lines[what]
        rounds = 1 if what.startswith("training") else 2
        assert len(line["all"]) == len(line["step_rates"]) == rounds
        assert line["value"] == pytest.approx(sum(line["all"]) / rounds, rel=1e-4)
        assert line["work"] > 0
    # Counted on batches that have no padding, and by whole translations.
    assert lines["training, general feeding, decoder 16"]["work"] == pytest.approx(
        1e6 * lines["matrix multiply work, general feeding, decoder 16"]["value"], rel=1e-4
    )
    assert 0 < lines["decoding, greedy"]["pieces"] < 100
    for name in ("greedy", "beam 5"):
        assert lines[f"translated as by the plain search, {name}"]["value"] == 1
        assert lines[f"translated as by the plain search, {name}"]["sentences"] in (2, 3)
    for kind in ("2 sentences, 32-true", "2 sentences, bf16-mixed"):
        found = {one: lines[f"device, general feeding, decoder 16, {kind}: {one}"] for one in ("ours", "plain loop")}
        ratio = lines[f"device, general feeding, decoder 16, {kind}: ours over plain loop"]
        assert ratio["all"][0] == pytest.approx(found["ours"]["all"][0] / found["plain loop"]["all"][0])
    trained = lines["training on a GPU, general feeding, decoder 16, 32-true"]
    assert 2 < trained["dev_loss"] < 6
    assert 0 <= trained["dev_bleu"] <= 100
    times = [json.loads(line)["value"] for line in printed.splitlines() if '"size": ' in line]
    file = tmp_path / "figures.jsonl"
    file.write_text(printed)
    bench.main(["table", str(file)])
    table = capsys.readouterr().out
    commit = code_version()
    assert f"Commits: {str(commit['commit'])[:12]}" in table
    assert re.search(r"\| padding in training, the variant with most \| [\d.]+ % \| under 5 % \| (yes|no) \|", table)
    assert re.search(r"\| decoding, beam 5 \| [\d,]+ sentences \| \d+ % \(\d+ to \d+\) \| [\d.]+ % \| eole", table)
    assert "| training on a GPU, general feeding, decoder 16, 32-true | a card | " in table
    grown = f"us/target token by tokens a sentence | 3 6 | {math.log2(times[1] / times[0]):.2f} |"
    assert f"| training, general feeding, {grown}" in table
    assert file.with_suffix(".svg").read_text().startswith("<svg")
    assert file.with_name("figures-memory.svg").read_text().startswith("<svg")


def test_the_command_reads_what_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "pipelines")
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    import bench

    bench.main(["corpus", "2000"])
    file = tmp_path / "figures.jsonl"
    file.write_text(capsys.readouterr().out)
    bench.main(["table", str(file)])
    assert "| corpus, opened and ordered, s by pairs | 2,000 |" in capsys.readouterr().out
    for content in ("no line of it", "{}", "1"):
        file.write_text(content)
        with pytest.raises(UserError, match="not the lines that bench"):
            bench.main(["table", str(file)])
    for words in ([], ["quickly"], ["table"]):
        with pytest.raises(UserError, match=r"^usage: python pipelines/bench\.py train FOLDER"):
            bench.main(words)
    with pytest.raises(UserError, match=r"lengths all: no such variant; conf/bench\.yaml has general feeding, "):
        bench.main(["lengths", "all"])
    with pytest.raises(UserError, match="device tpu: set cpu or, where there is a GPU, cuda"):
        bench.main(["device", "tpu"])
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="compiled: there is no GPU here"):
            bench.main(["compiled"])
        with pytest.raises(UserError, match="gpu: there is no GPU here"):
            bench.main(["gpu", "raw"])
    with pytest.raises(UserError, match="corpus 7: set a whole number of pairs from 300"):
        bench.main(["corpus", "7"])


def test_a_step_on_a_device_is_held_against_other_ways() -> None:
    lines = [
        {"what": f"device, x, 2 sentences: {way}", "value": value, "unit": "target tokens/s"}
        for way, value in {"ours": 1.0, "plain loop": 4.0, "bare calls": 2.5}.items()
    ]
    lines += [{"what": "device, x, 2 sentences: ours over bare calls", "value": 0.4, "unit": "ratio"}]
    lines += [lines[0] | {"value": 1000.0}, {"what": "training, x", "value": 7.0, "unit": "target tokens/s"}]
    assert hold(lines, {"bare calls": 500, "in a dream": 2}) == [
        ["what", "ours, target tokens/s", "over bare calls", "over plain loop"],
        ["x, 2 sentences", "1,000", "400.00 (2), missed", "250.00 (4)"],
    ]
    assert hold(lines[-1:], {}) == [["what", "ours, target tokens/s"]]


def test_trainings_on_a_gpu_are_held_against_peers_of_the_same_card() -> None:
    lines = [
        {"what": f"training on a GPU, {one}", "value": speed, "seed": seed, "dev_loss": loss, "dev_bleu": 10.0 * seed}
        | {"device": "A"}
        for one in ("x", "y")
        for seed, speed, loss in ((1, 7.0, 2.0), (2, 80.0, 2.5), (3, 90.0, 4.5), (1, 40.0, 2.0))  # The first again.
    ]
    lines += [{"what": "training, x", "value": 1.0}, lines[0] | {"device": "B"}]
    peers = [
        GpuPeer("slow", "training on a GPU, x", 10.0, 8, "A"),
        GpuPeer("quick", "training on a GPU, x", 40, 2.5, "A"),
    ]
    reached = ["80 (40 80 90)", "3.00 (2.00 2.50 4.50)", "20.0 (10.0 20.0 30.0)"]
    assert compare_gpu(lines, peers)[1:] == [
        ["training on a GPU, x", "A", *reached, "slow", "10", "8.00", "8 times", "yes"],
        ["training on a GPU, x", "A", *reached, "quick", "40", "2.00", "2.5 times", "no"],
        ["training on a GPU, y", "A", *reached, "", "", "", "", ""],
        ["training on a GPU, x", "B", "7 (7)", "2.00 (2.00)", "10.0 (10.0)", "", "", "", "", ""],
    ]
    assert len(compare_gpu([lines[-2]], peers)) == 1


@pytest.mark.parametrize(
    ("attention", "feeding"), [("luong_general", True), ("luong_general", False), ("bahdanau", False)]
)
def test_the_plain_loop_says_what_the_model_says(attention: str, feeding: bool) -> None:
    """Given its weights, and a start that has nothing of the source."""
    model = tiny_model(attention, {"decoder.input_feeding": feeding, "decoder.start": "zero"})
    loop = PlainLoop(model).double()
    theirs, ours = dict(model.named_parameters()), dict(loop.named_parameters())
    places = {"source": "encoder.embedding", "target": "encoder.embedding", "keys": "decoder.attention.key_layer"}
    places |= {"encoder": "encoder.layers.0.weights", "decoder": "decoder.layers.0.weights"}
    places |= {"query": "decoder.attention.query_layer", "readout": "decoder.readout", "output": "output"}
    with torch.no_grad():
        for name, parameter in ours.items():
            place, dot, leaf = name.partition(".")
            key = f"{places[place]}.{leaf}" if dot else "decoder.attention.energy"
            if key in theirs:
                parameter.copy_(theirs[key])
            elif key == "output.weight":
                parameter.copy_(model.output.weight)  # The target embedding, named once.
            else:
                assert (key, attention) == ("decoder.attention.energy", "luong_general")
    target = torch.randint(FIXED_PIECES, 20, (3, 6))
    source, lengths = target[:, :4], torch.full((3,), 4)
    torch.testing.assert_close(loop(source, target), model(source, lengths, target))
    loss = model.loss(source, lengths, target)
    torch.testing.assert_close(loop.loss(source, lengths, target).nll, loss.nll)


@pytest.mark.parametrize("attention", ["luong_general", "bahdanau", "none", "fixed"])
def test_the_bare_calls_make_the_products_of_the_model(attention: str) -> None:
    """All of them but the few of the summary and the start, which are one a sentence, and one input of padding."""
    model = tiny_model(attention, {"encoder.hidden_size": 64, "decoder.hidden_size": 64, "decoder.start": "dense"})
    model, bare = model.float(), BareCalls(model.float())
    ids = torch.randint(FIXED_PIECES, 20, (3, 40))
    lengths = torch.full((3,), 40)
    whole = count_work(lambda: model(ids, lengths, ids))
    assert 0.9 * whole < count_work(lambda: bare(ids, ids)) <= whole


def test_what_has_no_bare_calls_is_refused() -> None:
    for attention in ("luong_dot", "luong_concat"):
        with pytest.raises(UserError, match=f"attention={attention}: no bare calls are written for such a model"):
            BareCalls(tiny_model(attention))
