"""Options and rules reach what they are for: from the settings to the steps, the scores, and the choice of a winner."""

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    SMALL,
    compose_config,
    curves,
    make_run,
    plain_search,
    prepare_job,
    tiny_model,
    train_config,
)
from scipy import stats
from torch import nn
from torch.nn import functional

from hourglass.analysis import bits
from hourglass.analysis.evaluation import SCHEMA_VERSION, Tuning
from hourglass.data.encoded import pad
from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.errors import DivergedError, UserError
from hourglass.experiments import rate_search
from hourglass.experiments.rate_search import possible_rates, run_search, search_rates
from hourglass.metrics.significance import Quantity, draw_resamples
from hourglass.metrics.transcription import WordErrorRate
from hourglass.metrics.translation import Bleu
from hourglass.models.checkpoint import load_trained
from hourglass.models.seq2seq import Seq2Seq
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json
from hourglass.system.records import read_record
from hourglass.training import fit, module, outcome, preparation, run
from hourglass.training.saving import Checkpoints
from hourglass.training.settings import check_settings

# Steps that change no weight in the digits of a loss, over one batch that every step reads.
STILL = (
    "optimizer.learning_rate=1e-12",
    "optimizer.warmup=0",
    "encoder.dropout=0",
    "decoder.dropout=0",
    "optimizer.label_smoothing=0",
    "data.train_pairs=12",
    "trainer.batch_tokens=4000",
    "trainer.target_tokens=500",
    "trainer.validations=1",
    "trainer.test=false",
)


def still_run(folder: Path, *overrides: str) -> tuple[RunFolder, list[float]]:
    """Train without changing the weights; return the run and its training loss at each step."""
    run = make_run(folder, "attention=luong_dot", *STILL, *overrides)
    losses = list(curves(run, "train/loss").values())
    assert len(losses) > 3
    return run, losses


# ---- Training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_of_a_step_is_the_cross_entropy_with_the_label_smoothing_of_the_settings(
    tmp_path: Path, smoothing: float
) -> None:
    option = f"optimizer.label_smoothing={smoothing}"
    run, losses = still_run(tmp_path, option)
    config = compose_config(*SMALL, "attention=luong_dot", *STILL, option, f"cache={tmp_path / 'cache'}")
    prepared = preparation.prepare(config, check_settings(config))
    train, vocabularies = prepared.corpus.splits["train"], prepared.vocabularies
    source = [[*ids, EOS] for ids in vocabularies.source.encode(train["source"][:])]
    target = [[BOS, *ids, EOS] for ids in vocabularies.target.encode(train["target"][:])]
    model = load_trained(run.last).model
    wanted = pad(target)[:, 1:]
    with torch.no_grad():
        logits = model(pad(source), torch.tensor(list(map(len, source))), pad(target)[:, :-1])
    expected = functional.cross_entropy(
        logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD, label_smoothing=smoothing
    )
    assert losses == pytest.approx([float(expected)] * len(losses), rel=1e-4)


def test_every_step_draws_a_dropout_mask_of_its_own(tmp_path: Path) -> None:
    _, losses = still_run(tmp_path, "decoder.dropout=0.5")
    assert min(abs(first - other) for first, other in itertools.combinations(losses, 2)) > 1e-4


def test_scheduled_sampling_grows_from_nothing_to_its_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    loss = Seq2Seq.loss

    def record(self: Seq2Seq, *inputs: Any, sampling: float = 0.0, **options: Any) -> Any:
        if self.training:
            shares.append(sampling)
        return loss(self, *inputs, sampling=sampling, **options)

    monkeypatch.setattr(Seq2Seq, "loss", record)
    _, losses = still_run(tmp_path, "trainer.scheduled_sampling=0.8")
    assert shares == pytest.approx([0.8 * step / len(losses) for step in range(len(losses))])
    # And changes the loss from the second step on.
    assert min(abs(later - losses[0]) for later in losses[1:]) > 3e-6


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_share_of_training_and_nothing_of_dev_is_read_without_source(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And dropout draws from the seeds that it has without the option."""
    read: dict[bool, list[bool]] = {True: [], False: []}  # By whether the model trains: whether a source is empty.
    seeds: list[int] = []
    loss = Seq2Seq.loss

    def record(self: Seq2Seq, source: Any, lengths: Any, *inputs: Any, **options: Any) -> Any:
        read[self.training] += [row == EOS for row in source[:, 0].tolist()]
        if self.training:
            seeds.append(torch.default_generator.initial_seed())
        assert ((source != PAD).sum(1) == lengths).all()
        return loss(self, source, lengths, *inputs, **options)

    monkeypatch.setattr(Seq2Seq, "loss", record)
    words = (f"trainer.null_source={share}", "data.train_pairs=100", "trainer.target_tokens=3000")
    still_run(tmp_path, *words)
    assert len(read[True]) > 500
    assert np.mean(read[True]) == pytest.approx(share, abs=4 * (share * (1 - share) / len(read[True])) ** 0.5)
    assert len(read[False]) >= 24
    assert not any(read[False])
    assert seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    assert seeds[0] == 1_000_000_007 * compose_config()["seed"]


def test_the_loss_of_a_step_whose_sources_are_all_nulled_is_that_of_empty_sources(tmp_path: Path) -> None:
    run, losses = still_run(tmp_path, "trainer.null_source=0.999999")
    config = compose_config(*SMALL, "attention=luong_dot", *STILL, f"cache={tmp_path / 'cache'}")
    prepared = preparation.prepare(config, check_settings(config))
    texts = prepared.corpus.splits["train"]["target"][:]
    target = pad([[BOS, *ids, EOS] for ids in prepared.vocabularies.target.encode(texts)])
    empty = torch.full((len(target), 1), EOS), torch.ones(len(target), dtype=torch.long)
    with torch.no_grad():
        expected = load_trained(run.last).model.loss(*empty, target).nll / (target[:, 1:] != PAD).sum()
    assert losses == pytest.approx([float(expected)] * len(losses), rel=1e-4)


def test_the_first_weights_are_drawn_from_the_range_of_the_settings(tmp_path: Path) -> None:
    run, _ = still_run(tmp_path, "init_range=0.03")
    for name, weight in load_trained(run.last).model.named_parameters():
        if weight.numel() > 200:
            assert 0.028 < weight.detach().abs().max() <= 0.03, name


@pytest.mark.parametrize("readout", ["tanh", "deep", "maxout", "state"])
@pytest.mark.parametrize("feeding", [False, True])
def test_dropout_acts_on_every_embedding_between_layers_and_on_the_readout(
    readout: str, feeding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each place where dropout acts, alone: the loss changes where its values are doubled and all others are left."""
    changes: dict[str, Any] = {
        "encoder.layers": 3,
        "decoder.layers": 2,
        "decoder.readout": readout,
        "decoder.input_feeding": feeding,
    }
    if readout in ("deep", "maxout"):
        changes["decoder.query"] = "previous"
    if readout == "state":
        changes |= {"decoder.context_to_all": True, "decoder.query": "previous"}
        changes |= {"decoder.readout_size": 16, "decoder.tie": "none"}
    model = tiny_model("luong_dot", changes).train()
    source, target = torch.tensor([[5, 6, 7, EOS]]), torch.tensor([[BOS, 8, 9, EOS]])
    calls = 0

    def loss(doubled: int | None) -> float:
        nonlocal calls
        calls = 0

        def act(self: nn.Dropout, values: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            return 2 * values if calls - 1 == doubled else values

        monkeypatch.setattr(nn.Dropout, "forward", act)
        return float(model.loss(source, torch.tensor([4]), target).nll)

    plain = loss(None)
    # The source's embeddings, between its three layers; the target's embeddings; between two layers; on the readout.
    # What can be computed ahead or afterwards is computed for all three steps at once.
    between, readouts = 1 if model.decoder.one_pass else 3, 3 if feeding else 1
    assert calls == 3 + 1 + between + readouts
    for place in range(calls):
        assert abs(loss(place) - plain) > 1e-6, place


def test_a_stream_has_the_budget_the_batches_and_the_validations_of_the_settings(tmp_path: Path) -> None:
    words = ("trainer.target_tokens=3000", "trainer.batch_tokens=90", "trainer.validations=5")
    prepared = prepare_job(tmp_path, *words)[1]
    stream, train = prepared.stream, prepared.splits["train"]
    assert stream.steps == 5 * stream.validate_every
    parts = list(stream.parts(first_step=0, rank=0, ranks=1, accumulate=1))
    assert sum(part.step_tokens for part in parts) == pytest.approx(3000, rel=0.1)
    padded = [len(part.rows) * max(train.target_lengths[part.rows].max(), 0) for part in parts]
    assert 80 < max(padded) <= 90


def test_the_order_of_batches_and_the_first_weights_follow_the_seed(tmp_path: Path) -> None:
    orders, weights = [], []
    for number, seed in enumerate((1, 2, 1)):
        job, prepared = prepare_job(tmp_path / str(number), f"seed={seed}", f"cache={tmp_path / 'cache'}")
        orders.append([batch.tolist() for batch in prepared.stream.epoch(0)])
        weights.append(run.make_model(job, prepared).output.bias.tolist())
    assert orders[0] == orders[2] != orders[1]
    assert weights[0] == weights[2] != weights[1]


def test_random_numbers_of_dropout_follow_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    loss = Seq2Seq.loss

    def record(self: Seq2Seq, *inputs: Any, **options: Any) -> Any:
        if self.training:
            seeds.append(torch.default_generator.initial_seed())
        return loss(self, *inputs, **options)

    monkeypatch.setattr(Seq2Seq, "loss", record)
    for seed in (1, 2):
        still_run(tmp_path / str(seed), f"seed={seed}", f"cache={tmp_path / 'cache'}")
    assert len(seeds) == len(set(seeds))


def test_the_rate_of_each_step_is_that_of_the_schedule(tmp_path: Path) -> None:
    made, losses = still_run(tmp_path, "optimizer.warmup=0.5", "optimizer.decay=none")
    rise = round(0.5 * len(losses))
    expected = [1e-12 * min(1, (step + 1) / rise) for step in range(len(losses))]
    assert list(curves(made, "train/learning_rate").values()) == pytest.approx(expected, rel=1e-4, abs=0)
    assert expected[0] < expected[-1]


@pytest.mark.parametrize(("select", "mode"), [("bleu", "max"), ("loss", "min"), ("phoneme_error_rate", "min")])
def test_patience_watches_the_score_that_selects(
    select: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class Recorded(fit.EarlyStopping):
        def __init__(self, *words: Any, **options: Any):
            super().__init__(*words, **options)
            made.append(self)

    monkeypatch.setattr(fit, "EarlyStopping", Recorded)
    words = ["trainer.patience=2", f"trainer.select={select}"]
    words += ["metrics=transcription"] if select == "phoneme_error_rate" else []
    still_run(tmp_path / "plain", *words)
    still_run(tmp_path / "smoothed", *words, "optimizer.label_smoothing=0.2")
    smoothed = "smoothed_loss" if select == "loss" else select
    expected = [(f"dev/{select}", mode, 2), (f"dev/{smoothed}", mode, 2)]
    assert [(item.monitor, item.mode, item.patience) for item in made] == expected


def test_mlflow_gets_the_tags_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(run, "Tracking", lambda *_, **options: given.update(options))
    job, prepared = prepare_job(tmp_path, "seed=5", "attention=luong_dot", "decoder.cell=gru")
    run.open_tracking(job, prepared)
    expected = {"seed": 5, "attention": "luong_dot", "encoder": "rnn", "decoder": "gru", "corpus": "copy"}
    assert {name: given["tags"][name] for name in expected} == expected
    assert given["dataset"] == ("copy", prepared.corpus.digest)


@pytest.mark.parametrize(
    ("name", "select", "smoothed", "best"),
    [
        *(("bleu", "bleu", 0, [1, 2]), ("bleu", "loss", 0, [1, 3]), ("bleu", "loss", 1, [1, 2])),
        ("word_error_rate", "word_error_rate", 0, [1]),  # Of which the lowest is the best.
    ],
)
def test_the_best_model_is_the_best_by_the_score_that_selects(
    name: str, select: str, smoothed: int, best: list[int], tmp_path: Path
) -> None:
    """Of two validations, each of which is the better one by one of the scores; smoothed losses are in BLEU's order."""
    settings: Any = SimpleNamespace(select=select, keep=0)
    metric = Bleu("en") if name == "bleu" else WordErrorRate("en")
    checkpoints = Checkpoints(RunFolder(tmp_path), settings, metric, steps=9, validate_every=1, resume=None)
    written: list[tuple[int, str]] = []
    for step, (bleu, loss) in enumerate(((1.0, 2.0), (3.0, 4.0), (2.0, 1.0)), 1):
        trainer: Any = SimpleNamespace(
            callback_metrics={
                f"dev/{name}": bleu,
                "dev/loss": loss,
                **({"dev/smoothed_loss": -bleu} if smoothed else {}),
            },
            global_step=step,
            should_stop=False,
            is_global_zero=False,
            save_checkpoint=lambda path, step=step: written.append((step, path.name)),
            strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
        )
        checkpoints.on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert [step for step, name in written if name == "best.ckpt"] == best


# ---- Search ----------------------------------------------------------------------------------------------------------


def test_dev_is_searched_greedily_and_test_as_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On as many sentences as they say; the speed of a trial is that of the same search."""
    dev: list[Any] = []
    test: list[Any] = []
    search, translate_split = module.search, outcome.translate_split

    def on_dev(model: Any, source: Any, lengths: Any, settings: Any, **options: Any) -> Any:
        dev.append((len(source), settings))
        return search(model, source, lengths, settings, **options)

    def on_test(trained: Any, split: Any, settings: Any, device: Any, name: str) -> Any:
        test.append((name, len(split), settings))
        return translate_split(trained, split, settings, device, name)

    monkeypatch.setattr(module, "search", on_dev)
    monkeypatch.setattr(outcome, "translate_split", on_test)
    loaded: list[Path] = []
    load = outcome.load_trained

    def on_load(path: Path) -> Any:
        loaded.append(path)
        return load(path)

    monkeypatch.setattr(outcome, "load_trained", on_load)
    words = ["search=beam", "search.beam=3", "trainer.dev_sentences=5", "trainer.test_sentences=7", "edges=[1,3,5]"]
    words += ["trainer.validations=1", "trainer.target_tokens=500", f"cache={tmp_path / 'cache'}"]
    made = make_run(tmp_path, "attention=luong_dot", *words)
    assert sum(count for count, _ in dev) == 5
    assert {(settings.beam, settings.temperature) for _, settings in dev} == {(1, 0.0)}
    assert [(name, count, settings.beam) for name, count, settings in test] == [("test", 7, 3)]
    buckets = read_json(made.metrics)["test"]["buckets"]
    assert [bucket["source_words"] for bucket in buckets] == [[1, 2], [3, 4], [5, None]]
    job, prepared = prepare_job(tmp_path, "attention=luong_dot", *words, f"run_dir={made.path}")
    assert outcome.measure_speed(job, prepared) > 0
    assert (test[-1][0], test[-1][2].beam) == ("dev", 3)
    assert loaded == [made.best, made.best]


def test_greedy_search_takes_over_nothing_that_samples_or_reads_weights() -> None:
    settings = plain_search(1, temperature=0.7, coverage_penalty=0.2, replace_unknown=True)
    assert settings.greedy == plain_search(1)
    assert plain_search(4).greedy == plain_search(1)


# ---- Scores ----------------------------------------------------------------------------------------------------------


def test_dev_and_test_are_scored_in_the_target_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.de").write_text("".join(f"a b {name} {number}\n" for number in range(8)))
        (tmp_path / f"{name}.zh").write_text("".join(f"甲{name}乙{number}\n" for number in range(8)))
    languages = []
    statistics = Bleu.statistics

    def record(self: Bleu, *texts: Any) -> Any:
        languages.append(self.target_language)
        return statistics(self, *texts)

    monkeypatch.setattr(Bleu, "statistics", record)
    corpus = [f"data.{name}={tmp_path / name}" for name in ("train", "dev", "test")]
    words = [word for word in SMALL if not word.startswith("data")]
    config = compose_config(
        *words,
        *("data=text", "data.source=de", "data.target=zh", *corpus, "edges=[1]"),
        *("tokenizer=char", "trainer.target_tokens=300", f"cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}"),
    )
    run = train_config(config)
    assert set(languages) == {"zh"}
    assert "tok:zh" in read_json(run.metrics)["test"]["metrics"]["bleu"]["signature"]


# ---- Choices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "tried"),
    [
        ({2.0: 1.0}, [1.0, 2.0, 4.0]),
        ({4.0: 1.0, 8.0: 1.5}, [1.0, 2.0, 4.0, 8.0]),
        ({1.0: 1.0, 0.5: 0.9, 0.25: 0.8, 0.125: 2.0}, [1.0, 2.0, 4.0, 0.5, 0.25, 0.125]),
        ({4.0: 1.0}, [1.0, 2.0, 4.0, 8.0]),  # Higher ones diverge.
    ],
)
def test_the_search_of_the_ablation_chooses_the_lowest_dev_loss_inside_its_grid(
    losses: dict[float, float], tried: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A candidate without a loss here has a high one, and above a rate of 4 it diverges."""
    trained: list[float] = []

    def training(words: list[str], output: object) -> None:
        assert words[0] == "seed=1"
        trained.append(float(words[1].removeprefix("optimizer.learning_rate=")))
        if trained[-1] > 4 and trained[-1] not in losses:
            raise DivergedError("diverged")

    def open_run(path: Path) -> Any:
        assert path == tmp_path / str(len(trained) - 1)
        dev = SimpleNamespace(criterion=losses.get(trained[-1], 3.0))
        return SimpleNamespace(metrics=SimpleNamespace(dev=dev, train_target_tokens=1, train_seconds=1.0))

    monkeypatch.setattr(rate_search, "run_training", training)
    monkeypatch.setattr(rate_search.FinishedRun, "open", open_run)
    file = tmp_path / "tuning.json"
    run_search([1.0, 2.0, 4.0], ["seed=1"], lambda number: tmp_path / str(number), file)
    written = read_record(file, Tuning, SCHEMA_VERSION, "")
    assert trained == tried == [candidate.learning_rate for candidate in written.candidates]
    assert written.learning_rate == min(losses, key=lambda rate: losses[rate])
    assert written.edge is None
    assert (written.candidates[-1].dev_loss is None) == (tried[-1] > 4 and 8.0 not in losses)


def test_a_search_is_extended_four_times_at_most_and_a_single_rate_never() -> None:
    assert list(search_rates([1.0, 2.0], lambda rate: 1 / rate)) == [1, 2, 4, 8, 16, 32]
    assert list(search_rates([1.0], lambda rate: rate)) == [1]
    for worse in (lambda rate: rate, lambda rate: 1 / rate):
        assert set(search_rates([0.3, 0.1], worse)) <= set(possible_rates([0.3, 0.1]))
    with pytest.raises(UserError, match=r"learning_rates=\[1\.0\]: all trainings diverged"):
        search_rates([1.0], lambda rate: math.inf)


# ---- Variances over seeds, bounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baseline", "pairs"),
    [
        ("none", [("look", "fixed"), ("mean", "fixed")]),
        ("look", [("mean", "fixed"), ("fixed", "none")]),
        ("fixed", []),
    ],
)
def test_attention_is_compared_with_fixed_and_fixed_with_none(baseline: str, pairs: list[tuple[str, str]]) -> None:
    """Names are of variants; what they are follows from their attention."""
    attentions = {"none": "none", "look": "luong_dot", "mean": "mean", "fixed": "fixed"}
    assert bits._other_pairs(attentions, {}, baseline) == pairs
    assert bits._other_pairs({"none": "none", "look": "luong_dot"}, {}, "none") == []


def test_a_fresh_decoder_is_compared_with_that_of_its_encoder_and_with_a_joint_one() -> None:
    attentions = {"look": "luong_dot", "none": "none", "fixed": "fixed", "fresh": "fixed"}
    pairs = bits._other_pairs(attentions, {"fresh": "none"}, "look")
    assert pairs == [("fixed", "none"), ("fresh", "none"), ("fixed", "fresh")]
    assert bits._other_pairs(attentions, {"fresh": "none"}, "none") == [("look", "fixed"), ("fixed", "fresh")]
    # Of the encoder of fixed, the joint decoder is the encoder's own.
    assert bits._other_pairs(attentions, {"fresh": "fixed"}, "look") == [("fixed", "none"), ("fresh", "fixed")]
    assert ("fresh", "elsewhere") not in bits._other_pairs(attentions, {"fresh": "elsewhere"}, "look")


def test_no_interval_of_bits_exceeds_the_information_in_the_references() -> None:
    """The bits of two seeds lie far apart: Student's t alone would reach beyond the 35 bits that there are."""
    draws = np.random.default_rng(6)
    measured = SimpleNamespace(needed=[draws.gamma(2.0, 2.0, 200), draws.gamma(2.0, 5.0, 200)])
    quantity = bits._Measurement.received(measured, np.full(200, 35.0), draw_resamples(200, 100))  # type: ignore[arg-type]
    result = quantity.estimate
    assert result.mean == pytest.approx(35 - np.mean(measured.needed))
    assert result.own_spread is not None
    assert result.own_spread.high == 35 < 2 * result.mean - result.own_spread.low


def test_differences_of_bits_have_the_variance_over_seeds_pooled_over_all_variants() -> None:
    """By the formula, whose terms differ from variant to variant and from bucket to bucket."""
    draws = np.random.default_rng(3)
    spreads = {"none": 1.0, "mean": 4.0, "fixed": 9.0}
    measured: dict[str, Any] = {}
    for number, (name, spread) in enumerate(spreads.items()):
        whole, part = (
            Quantity(10.0 * number + spread * scale * draws.normal(size=3), draws.normal(size=(3, 50)), 60)
            for scale in (1.0, 2.0)
        )
        test = SimpleNamespace(bounds=[(1, None)], source_words=np.arange(1.0, 61.0))
        needed = [draws.normal(size=60) for _ in range(3)]
        measured[name] = SimpleNamespace(
            whole=whole, buckets={0: part}, test=test, needed=needed, joined_quantities={2: part} if number else {}
        )
    differences = {name: bits._compare(measured, name, "none", {}) for name in ("mean", "fixed")}
    assert differences["mean"].joined == {}  # What one of the two lacks is not compared.
    joined = bits._compare(measured, "mean", "fixed", {}).joined
    assert joined[2].value == measured["mean"].buckets[0].mean - measured["fixed"].buckets[0].mean
    for bucket in (None, 0):
        quantities = {name: own.whole if bucket is None else own.buckets[0] for name, own in measured.items()}
        pooled = np.mean([item.value.var(ddof=1) for item in quantities.values()])
        for name in ("mean", "fixed"):
            item, base = quantities[name], quantities["none"]
            sentences = (item.drawn.mean(0) - base.drawn.mean(0)).var(ddof=1)
            squares = np.asarray(stats.t.ppf(0.975, [59, 6])) ** 2 @ [sentences, pooled * 2 / 3]
            width = 2 * np.sqrt(squares)
            result = differences[name]
            difference = result.whole if bucket is None else result.by_length[0]
            assert difference is not None
            interval = difference.architecture
            assert interval is not None
            assert interval.high - interval.low == pytest.approx(width)
