"""Whole runs of src/train.py: their files, reproducibility, and resuming."""

import csv
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import (
    ROOT,
    SMALL,
    assert_same_training,
    command,
    compose_config,
    curves,
    empty_store,
    hear_ctrl_c,
    kill_at_step,
    run_script,
    teacher_forced_logits,
    teacher_forced_nats,
    train_config,
    trained_names,
    wait_for,
    weights,
)
from sacrebleu.metrics import BLEU
from torch.nn.functional import cross_entropy

from hourglass.corpora.corpus import load_corpus
from hourglass.data.pieces import EOS, PAD
from hourglass.decoding.search import Hypothesis
from hourglass.errors import UserError
from hourglass.models.checkpoint import load_trained
from hourglass.models.decoder import Decoder
from hourglass.runs.curves import read_curves
from hourglass.runs.folder import RunFolder, resume_run, run_lock
from hourglass.system.files import read_json, write_json
from hourglass.training import run as run_module
from hourglass.training.finished import FinishedRun
from hourglass.training.preparation import prepare
from hourglass.training.resuming import load_progress
from hourglass.training.settings import check_settings


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def start(tmp_path: Path, cache: Path) -> Callable[..., RunFolder]:
    """Return a function that runs SMALL with further overrides in this process, and returns the run folder."""

    def run(name: str, *overrides: str) -> RunFolder:
        return train_config(compose_config(*SMALL, f"cache={cache}", f"run_dir={tmp_path / name}", *overrides))

    return run


def with_bfloat16(patch: pytest.MonkeyPatch, instructions: Sequence[str] = ("avx512_bf16",)) -> None:
    """Stand for a CPU with these instructions for bfloat16. Without them torch computes the same, more slowly."""
    for module in ("trainer", "run"):
        patch.setattr(f"hourglass.training.{module}.bfloat16_instructions", lambda: list(instructions))


def test_the_files_of_a_run(start: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str]) -> None:
    run = start("one")
    metrics, config = read_json(run.metrics), yaml.safe_load(run.config.read_text())
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"run: {run.path}"
    assert config["data"]["symbols"] == 6

    with run.translations.open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert list(rows[0]) == ["id", "source", "reference", "hypothesis"]
    assert len(rows) == 30
    hypotheses, references, sources = ([row[name] for row in rows] for name in ("hypothesis", "reference", "source"))
    bleu = BLEU()
    test = metrics["test"]
    assert test["bleu"] == pytest.approx(bleu.corpus_score(hypotheses, [references]).score)
    assert test["metrics"]["bleu"]["signature"] == str(bleu.get_signature())
    assert test["copy_bleu"] == pytest.approx(BLEU().corpus_score(sources, [references]).score) == pytest.approx(100)
    first = test["buckets"][0]
    assert first["source_words"] == [1, 5]
    assert sum(bucket["sentences"] for bucket in test["buckets"]) == 30
    assert {"bleu", "copy_bleu", "brevity_penalty"} <= first.keys()
    assert "chrf" in test
    assert set(test["metrics"]) == {"bleu", "chrf"}

    assert metrics["seed"] == 1
    assert metrics["parameters"] == sum(p.numel() for p in load_trained(run.best).model.parameters())
    assert metrics["target_tokens_budget"] == 4000
    # The number of steps is a multiple of the number of validations.
    assert metrics["train_target_tokens"] == pytest.approx(4000, rel=0.1)
    assert metrics["train_target_tokens"] == curves(run, "train/target_tokens")[max(curves(run, "train/loss"))]
    assert metrics["train_target_tokens_per_second"] > 0
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert metrics["commit"] == (commit.stdout.strip() or None)


@pytest.mark.more
@pytest.mark.slow
def test_best_is_the_best_on_dev(start: Callable[..., RunFolder]) -> None:
    for select, pick in (("bleu", max), ("loss", min)):
        run = start(select, f"trainer.select={select}", "trainer.validations=6", "optimizer.learning_rate=0.02")
        curve = curves(run, f"dev/{select}")
        assert len(curve) == 6
        best = pick(curve.values())
        step = next(step for step, value in curve.items() if value == best)
        # A curve's steps count from 0: its point at step 9 was taken after ten steps.
        assert load_trained(run.best).step == step + 1 == load_progress(run.last).best["step"]
        assert read_json(run.metrics)["dev"][select] == pytest.approx(best)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_dev_scores_are_those_of_the_checkpoint(
    start: Callable[..., RunFolder], cache: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare the loss of the last validation with the model's likelihood in float32, sentence by sentence."""
    with_bfloat16(monkeypatch)
    run = start("one", f"trainer.precision={precision}")
    trained = load_trained(run.last)
    dev = load_corpus(trained.config["data"], cache).splits["dev"]
    sides = trained.vocabularies.source.encode(dev["source"][:]), trained.vocabularies.target.encode(dev["target"][:])
    nats = torch.cat([teacher_forced_nats(trained.model, *pair) for pair in zip(*sides, strict=True)])
    last = max(curves(run, "dev/loss"))
    assert curves(run, "dev/loss")[last] == pytest.approx(float(nats.mean()), rel=1e-5)
    # The cross-entropy against the smoothed target, by torch's own function of it.
    smoothing = trained.config["optimizer"]["label_smoothing"]
    assert smoothing > 0
    smoothed = [
        cross_entropy(
            teacher_forced_logits(trained.model, *pair), torch.tensor([*pair[1], EOS]), label_smoothing=smoothing
        )
        * (len(pair[1]) + 1)
        for pair in zip(*sides, strict=True)
    ]
    assert curves(run, "dev/smoothed_loss")[last] == pytest.approx(float(sum(smoothed)) / len(nats), rel=1e-5)
    best = FinishedRun.open(run.path).metrics.dev
    assert best.criterion == best.smoothed_loss == curves(run, "dev/smoothed_loss")[best.step - 1]


@pytest.mark.parametrize("every", [3, 1000])
def test_curves_have_a_point_every_so_many_steps(start: Callable[..., RunFolder], every: int) -> None:
    """Train with a tiny rate, so that the logged values can be recomputed; a shorter run has the last step."""
    still = ("optimizer.learning_rate=1e-9", "optimizer.label_smoothing=0", "encoder.dropout=0", "decoder.dropout=0")
    run = start("one", f"trainer.log_every={every}", "trainer.accumulate=2", "trainer.test=false", *still)
    config = yaml.safe_load(run.config.read_text())
    settings = check_settings(config)
    prepared = prepare(config, settings)
    steps, model = prepared.stream.steps, load_trained(run.last).model.eval()
    assert 6 < steps < 1000
    parts = list(prepared.stream.parts(first_step=0, rank=0, ranks=1, accumulate=2))
    logged = read_curves(run.curves)
    due = list(range(every - 1, steps, every)) or [steps - 1]
    for name in ("train/loss", "train/learning_rate", "train/target_tokens", "train/tokens_per_second"):
        assert [step for step, own, _ in logged if own == name] == due
    for step in due:
        batch = prepared.splits["train"][parts[2 * step + 1]]  # The last part of the step.
        loss = model.loss(batch.source, batch.source_lengths, batch.target).nll / (batch.target[:, 1:] != PAD).sum()
        assert curves(run, "train/loss")[step] == pytest.approx(loss.item(), rel=1e-4)
        rate = 1e-9 * settings.optimizer.rate(step, steps)
        assert curves(run, "train/learning_rate")[step] == pytest.approx(rate, rel=1e-6)
        tokens = sum(part.step_tokens for part in parts[: 2 * step + 2 : 2])
        assert curves(run, "train/target_tokens")[step] == tokens


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=(pytest.mark.slow, pytest.mark.more))])
def test_the_same_seed_gives_the_same_run_and_another_does_not(start: Callable[..., RunFolder], threads: int) -> None:
    shared = f"trainer.threads={threads}"
    first, again, other = start("one", shared), start("again", shared), start("other", shared, "seed=2")
    assert_same_training(first, again)
    assert curves(first, "train/loss") != curves(other, "train/loss")


@pytest.mark.slow
def test_accumulation_changes_nothing(start: Callable[..., RunFolder]) -> None:
    """The gradient of a step is that of the global batch, into however many uneven parts it is split."""
    still = ["encoder.dropout=0", "decoder.dropout=0", "trainer.batch_tokens=50", "trainer.null_source=0.3"]
    # Adam, and a gradient that is clipped, would not mind a factor.
    still += ["optimizer=sgd", "optimizer.learning_rate=0.2", "optimizer.clip_norm=0"]
    whole, parts = start("whole", *still), start("parts", *still, "trainer.accumulate=3")
    own, theirs = weights(whole.last), weights(parts.last)
    for name, weight in own.items():
        torch.testing.assert_close(theirs[name], weight, rtol=1e-3, atol=1e-4, msg=name)
    assert load_progress(whole.last).target_tokens == load_progress(parts.last).target_tokens
    assert curves(whole, "dev/loss").keys() == curves(parts, "dev/loss").keys()


@pytest.mark.more
@pytest.mark.slow
def test_fast_paths_can_be_switched_off(start: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("attention=luong_general", "trainer.test=false", "trainer.pictures=0")
    once = start("once", *words)
    with monkeypatch.context() as patched:
        patched.delattr(Decoder, "_forward_at_once")
        patched.delattr(Decoder, "_project_ahead")
        with pytest.raises(AttributeError):
            start("none", *words)
        # Search, which translates dev, has only this path.
        patched.setattr(
            "hourglass.training.module.search", lambda model, source, *_: [Hypothesis([], 0.0, 0.0, True)] * len(source)
        )
        stepped = start("stepped", *words, "trainer.step_loop=true")
    own, theirs = weights(once.last), weights(stepped.last)
    for name, weight in own.items():
        torch.testing.assert_close(theirs[name], weight, rtol=1e-3, atol=1e-4, msg=name)
    assert curves(once, "dev/loss") == pytest.approx(curves(stepped, "dev/loss"), rel=1e-4)


@pytest.mark.more
@pytest.mark.slow
def test_half_precision_trains_with_clipping(
    start: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Against float32, which names the other precision where the CPU has it; weights stay float32 in both."""
    words = ("optimizer.clip_norm=1", "trainer.test=false", "trainer.pictures=0")
    with caplog.at_level("INFO", logger="hourglass"):
        with_bfloat16(monkeypatch)
        half = start("half", *words, "trainer.precision=bf16-mixed")
        assert "trainer.precision" not in caplog.text
        full = start("full", *words)
        hint = "this CPU has avx512_bf16: trainer.precision=bf16-mixed may train faster"
        assert any(message.startswith(hint) for message in caplog.messages)
        caplog.clear()
        with_bfloat16(monkeypatch, ())
        start("without", *words, "trainer.target_tokens=1", "trainer.validations=1")
        assert "trainer.precision" not in caplog.text
    first, other = (list(curves(run, "train/loss").values()) for run in (half, full))
    assert first != other
    assert first == pytest.approx(other, rel=0.02)
    trained = weights(half.last)
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    assert any(torch.any(weight != weight.bfloat16()) for weight in trained.values())
    assert [read_json(run.metrics)["precision"] for run in (half, full)] == ["bf16-mixed", "32-true"]


@pytest.mark.more
@pytest.mark.slow
def test_half_precision_resumes_bit_for_bit(start: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    with_bfloat16(monkeypatch)
    words = ("trainer.precision=bf16-mixed", "decoder.input_feeding=true", "trainer.accumulate=2")
    unbroken = start("unbroken", *words)
    kill_at_step(14, lambda: start("broken", *words))
    assert_same_training(unbroken, start("broken", *words, "if_exists=continue"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "precision"),
    [
        ("transformer", "32-true"),
        pytest.param("transformer", "bf16-mixed", marks=pytest.mark.more),
        pytest.param("convolution", "bf16-mixed", marks=pytest.mark.more),
    ],
)
def test_other_encoders_resume_bit_for_bit_and_translate(
    encoder: str, precision: str, start: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With attention=multi_head; the translations of test are by the quantised decoder."""
    with_bfloat16(monkeypatch)
    words = (
        *(f"encoder={encoder}", "encoder.summary=attention", "attention=multi_head"),
        *(f"trainer.precision={precision}", "search=beam", "search.beam=2", "search.precision=int8"),
    )
    unbroken = start("unbroken", *words)
    kill_at_step(14, lambda: start("broken", *words))
    assert_same_training(unbroken, start("broken", *words, "if_exists=continue"))
    assert len(unbroken.translations.read_text().splitlines()) > 1


def test_a_step_is_as_long_as_the_clipped_gradient(start: Callable[..., RunFolder]) -> None:
    words = ["optimizer=sgd", "optimizer.momentum=0", "optimizer.warmup=0", "optimizer.decay=none"]
    words += ["optimizer.clip_norm=0.01", "trainer.target_tokens=1", "trainer.validations=1", "trainer.test=false"]
    runs = [start(rate, *words, f"optimizer.learning_rate={rate}") for rate in ("1e-20", "0.5")]
    stood, moved = (weights(run.last) for run in runs)
    length = torch.stack([(moved[name] - stood[name]).norm() for name in trained_names(runs[0])]).norm()
    assert length.item() == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_patience_stops_a_run_that_gets_no_better(start: Callable[..., RunFolder]) -> None:
    # The rate is so high that dev scores get worse.
    run = start("one", "optimizer.learning_rate=1.5", "trainer.patience=1", "trainer.validations=10")
    curve = list(curves(run, "dev/bleu").values())
    assert 2 <= len(curve) < 10
    assert curve[-1] <= max(curve[:-1])
    assert load_progress(run.last).finished


def test_of_two_models_with_the_same_bleu_the_lower_loss_is_best(start: Callable[..., RunFolder]) -> None:
    run = start("one", "optimizer.learning_rate=1e-5")
    assert len(set(curves(run, "dev/bleu").values())) == 1
    assert load_trained(run.best).step == max(curves(run, "dev/loss")) + 1


def test_divergence_ends_in_one_line(start: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    from hourglass.models.seq2seq import Seq2Seq

    loss = Seq2Seq.loss

    def broken(self: Seq2Seq, *args: Any, **options: Any) -> Any:
        result = loss(self, *args, **options)
        return result._replace(smoothed=result.smoothed * torch.nan)

    monkeypatch.setattr(Seq2Seq, "loss", broken)
    with pytest.raises(UserError, match=r"diverged; set a lower optimizer\.learning_rate"):
        start("one")


def test_a_finished_run_is_scored_again_only_without_its_scores(
    start: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    run = start("one")
    before = run.metrics.read_text(), run.last.read_bytes()
    config = yaml.safe_load(run.config.read_text())
    written = run.metrics.stat().st_mtime_ns
    train_config(config, run)
    assert run.metrics.stat().st_mtime_ns == written
    run.metrics.unlink()
    train_config(config, run)
    assert (run.metrics.read_text(), run.last.read_bytes()) == before
    assert capsys.readouterr().out.splitlines()[-1] == f"run: {run.path}"


@pytest.mark.slow
def test_whether_a_run_is_scored_on_test_may_change(start: Callable[..., RunFolder]) -> None:
    """As it does for the largest run of an ablation, once there is a larger budget: it is not trained again."""
    untested, again = ("trainer.test=false", "trainer.pictures=0"), ("trainer.pictures=0", "if_exists=continue")
    kill_at_step(10, lambda: start("late", "trainer.pictures=0"))
    run = start("late", *untested, "if_exists=continue")
    # What the file says of the training stays, also of a training on another machine.
    metrics = read_json(run.metrics) | {"commit": "of then", "machine": {"processor": "of then"}}
    assert "test" not in metrics
    write_json(run.metrics, metrics)
    trained, best = run.last.read_bytes(), run.best.read_bytes()
    assert start("late", *again) == run
    assert (run.last.read_bytes(), run.best.read_bytes()) == (trained, best)
    expected = start("whole", "trainer.pictures=0")
    scored = metrics | {"test": read_json(expected.metrics)["test"]}
    assert read_json(run.metrics) == scored
    assert run.translations.read_text() == expected.translations.read_text()
    assert yaml.safe_load(run.config.read_text())["trainer"]["test"]
    start("late", *untested, "if_exists=continue_or_replace")  # Scores are not lost.
    assert read_json(run.metrics) == scored
    assert (run.last.read_bytes(), run.best.read_bytes()) == (trained, best)
    with pytest.raises(UserError, match=r"\(trainer\.test_sentences\)"):  # It would have other scores.
        start("late", *again, "trainer.test_sentences=5")


@pytest.mark.slow
def test_a_run_is_continued_if_it_is_the_same(
    start: Callable[..., RunFolder], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same settings resume from the last checkpoint; others are refused, or start anew if the user says so."""
    unbroken, other = start("unbroken"), start("other", "optimizer.learning_rate=0.01")
    for again, like in ((), unbroken), (("optimizer.learning_rate=0.01",), other):
        run_dir = f"broken{len(again)}"
        kill_at_step(10, lambda run_dir=run_dir: start(run_dir))  # type: ignore[misc]
        with pytest.raises(UserError, match=r"holds a run already: resume it by python .*src/train\.py resume="):
            start(run_dir, *again)
        with caplog.at_level("INFO", logger="hourglass"):
            if again:
                trained = weights(RunFolder(tmp_path / run_dir).last)
                with pytest.raises(UserError, match=r"other settings \(optimizer\.learning_rate\): .*another run_dir"):
                    start(run_dir, "if_exists=continue", *again)
                words = f"cache={tmp_path / 'elsewhere'}", f"run_dir={tmp_path / run_dir}", "if_exists=continue"
                done = run_script("src/train.py", *SMALL, *words, *again)
                assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
                assert "holds a run of other settings (optimizer.learning_rate): " in done.stderr
                assert not (tmp_path / "elsewhere").exists()  # Before any long work.
                kept = weights(RunFolder(tmp_path / run_dir).last)
                assert all(torch.equal(kept[name], tensor) for name, tensor in trained.items())
            run = start(run_dir, f"if_exists=continue{'_or_replace' if again else ''}", *again)
        assert_same_training(like, run)
        assert ("the checkpoint is of other settings (optimizer.learning_rate)" in caplog.text) == bool(again)
    # A finished run of other code is refused, or trained again; one of the same code is kept.
    made = run.best.stat().st_mtime_ns
    for if_exists in ("continue", "continue_or_replace"):
        start(run_dir, f"if_exists={if_exists}", *again)
    assert run.best.stat().st_mtime_ns == made
    monkeypatch.setattr(run_module, "CODE", "other")
    with pytest.raises(UserError, match=r"of other code: train on with the present code by python .* resume="):
        start(run_dir, "if_exists=continue", *again)
    assert run.best.stat().st_mtime_ns == made
    start(run_dir, "if_exists=continue_or_replace", *again)
    assert "the checkpoint is of other code" in caplog.text
    assert run.best.stat().st_mtime_ns > made
    # resume=PATH resumes the run with any code.
    assert resume_run(str(run.path), [])[1]["if_exists"] == "refuse"


@pytest.mark.slow
@pytest.mark.parametrize("kept", [1000, pytest.param(-1, marks=pytest.mark.more)])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    start: Callable[..., RunFolder], caplog: pytest.LogCaptureFixture, kept: int
) -> None:
    """Kill at step 26, when last.ckpt and best.ckpt are of step 24, a validation, and previous.ckpt of step 20."""
    options = ("trainer.select=loss", "trainer.accumulate=2", "trainer.null_source=0.3")
    unbroken = start("unbroken", *options)
    kill_at_step(26, lambda: start("broken", *options))
    run = RunFolder(unbroken.path.parent / "broken")
    assert [load_progress(path).step for path in (run.previous, run.last, run.best)] == [20, 24, 24]
    run.last.write_bytes(run.last.read_bytes()[:kept])
    assert start("broken", "if_exists=continue", *options) == run
    (message,) = [record.message for record in caplog.records if "not a whole checkpoint" in record.message]
    assert re.fullmatch(
        r".*last\.ckpt: not a whole checkpoint of hourglass: cut short.*; resuming from step 20 of .*previous\.ckpt",
        message,
    )
    assert_same_training(unbroken, run)
    assert all(torch.equal(item, weights(run.best)[name]) for name, item in weights(unbroken.best).items())

    run.previous.write_bytes(b"")
    run.last.write_bytes(b"")
    config = yaml.safe_load(run.config.read_text()) | {"if_exists": "refuse"}
    with pytest.raises(UserError, match=r"last\.ckpt: not a whole .*; neither is previous\.ckpt: start a new run$"):
        train_config(config, run)


def test_only_one_process_works_on_a_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    script = (
        "import sys, pathlib, hourglass.runs.folder as r\n"
        "with r.run_lock(r.RunFolder(pathlib.Path(sys.argv[1]))):\n"
        "    print('working', flush=True)\n"
        "    sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path)]
    owner = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    owner.stdout.readline()
    with pytest.raises(UserError, match=rf"process {owner.pid} is working on this run"), run_lock(run):
        pass
    came: list[str] = []

    def wait_for_it() -> None:
        with run_lock(run, wait=True):
            came.append(run.lock.read_text())

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    waiting.join(0.3)
    assert not came
    owner.kill()
    owner.wait()
    waiting.join(60)
    assert came == [f"{os.getpid()}\n"]
    with run_lock(run):  # The lock of a dead process is free.
        assert run.lock.read_text() == f"{os.getpid()}\n"


# ---- By the command --------------------------------------------------------------------------------------------------


def kill_at(step: int, run: RunFolder, overrides: tuple[str, ...]) -> None:
    """Start a run and kill it with SIGKILL as soon as its curves reach a step."""
    process = subprocess.Popen(
        command(*overrides), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(
            lambda: run.curves.exists() and any(s >= step for s in curves(run, "train/loss")), process, f"step {step}"
        )
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def small_command(tmp_path: Path, cache: Path) -> tuple[str, ...]:
    # Patience and accumulation have state that a resumed run must restore.
    return (*SMALL, f"cache={cache}", "trainer.patience=9", "trainer.accumulate=2")


@pytest.mark.more
@pytest.mark.slow
def test_kill_and_resume(tmp_path: Path, small_command: tuple[str, ...], start: Callable[..., RunFolder]) -> None:
    """kill -9 twice and resume: the result is the uninterrupted run, bit for bit, at any step."""
    unbroken = start("unbroken", "trainer.patience=9", "trainer.accumulate=2")
    steps = max(curves(unbroken, "train/loss")) + 1
    run = RunFolder(tmp_path / "broken")
    kill_at(steps // 3, run, (*small_command, f"run_dir={run.path}"))
    assert not run.metrics.exists()
    kill_at(2 * steps // 3 + 1, run, (f"resume={run.path}",))
    done = subprocess.run(command(f"resume={run.path}"), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"run: {run.path}"
    assert_same_training(unbroken, run)


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_stopped_run_says_how_to_resume_it(
    tmp_path: Path, small_command: tuple[str, ...], sent: signal.Signals, code: int
) -> None:
    run = RunFolder(tmp_path / "one")
    overrides = (*small_command, f"run_dir={run.path}", "trainer.target_tokens=1000000")
    process = subprocess.Popen(
        command(*overrides),
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,  # noqa: PLW1509 (it only sets a signal)
    )
    wait_for(run.last.exists, process, "a checkpoint")
    process.send_signal(sent)
    _, stderr = process.communicate()
    assert process.returncode == code
    assert f"src/train.py resume={run.path}" in stderr.decode()
    assert "Traceback" not in stderr.decode()
    assert load_progress(run.last).step > 0


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path, cache: Path, start: Callable[..., RunFolder]) -> None:
    """DDP on two CPU processes, with uneven shares and accumulation, gives the weights of one process."""
    words = ("trainer.batch_tokens=50", "trainer.accumulate=2", "trainer.null_source=0.3")
    still = ("encoder.dropout=0", "decoder.dropout=0", *words)
    alone = start("alone", *still)
    pair = RunFolder(tmp_path / "pair")
    ddp = ("trainer.accelerator=cpu", "trainer.strategy=ddp", "trainer.devices=2")
    done = subprocess.run(
        command(
            *(word for word in SMALL if word != "logger=csv"),
            *(*still, *ddp, f"cache={cache}", f"run_dir={pair.path}"),
            *("logger=mlflow", "logger.model=false", f"logger.tracking_uri={empty_store(tmp_path)}"),
        ),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert [line for line in done.stdout.splitlines() if line.startswith("run: ")] == [f"run: {pair.path}"]
    weights_of_pair = weights(pair.last)
    for name, weight in weights(alone.last).items():
        torch.testing.assert_close(weights_of_pair[name], weight, rtol=1e-4, atol=1e-5, msg=name)  # measured: 1.2e-7
    for name in ("dev/bleu", "dev/loss"):
        assert curves(alone, name) == pytest.approx(curves(pair, name), rel=1e-3, abs=1e-2)
    assert load_progress(alone.last).target_tokens == load_progress(pair.last).target_tokens
    # MLflow also has one run, from the process that is not spawned.
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        assert store.execute("select status from runs").fetchall() == [("FINISHED",)]
        points = store.execute("select step, value from metrics where key = 'train/loss' order by step").fetchall()
    assert points == sorted(curves(pair, "train/loss").items())
