"""pipelines/bench.py: its commands print measurements, and its tables read them."""

import dataclasses
import itertools
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import ROOT, bench_settings, compose_config, write_multi30k

from hourglass.bench.decoding import measure_agreement, measure_decoding, train_decoding_model
from hourglass.bench.devices import measure_device, measure_limit, runs_bfloat16_lstm
from hourglass.bench.growth import measure_lengths
from hourglass.bench.peers import read_targets
from hourglass.bench.settings import BenchSettings
from hourglass.bench.training import measure_training, measure_whole_training
from hourglass.config.command_line import read_command
from hourglass.errors import UserError
from hourglass.runs.folder import RunFolder, write_config
from hourglass.system.machine import bfloat16_instructions
from hourglass.system.project import code_version


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return the command, in this process, whose number of threads stays."""
    monkeypatch.syspath_prepend(ROOT / "pipelines")
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    import bench

    def run(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["pipelines/bench.py", *words])
        bench.main(read_command("bench", *bench.OPERANDS, epilogue=bench.COMMAND_LIST))

    return run


def small_settings() -> BenchSettings:
    settings = bench_settings()
    small = ["data.vocabulary_size=60", "encoder.hidden_size=16", "trainer.batch_tokens=200"]
    return dataclasses.replace(
        settings,
        overrides=[*settings.overrides, *small],
        decoder_sizes=[16],
        variants={"general feeding": "attention=luong_general decoder.input_feeding=true"},
        target_tokens=500,
        decoding_target_tokens=2000,
        exact_sentences=3,
        rounds=2,
        seconds=0.01,
        lengths=[3, 6],
        device_sentences=[2],
        device_seconds=0.01,
        device_precisions=["32-true", "bf16-mixed"],
        gpu_target_tokens=600,
    )


def row_of_beam_5(processor: str) -> str:
    """Return a pattern of its row in float32: without a peer, if none was measured on this processor."""
    rival = "eole" if processor in {peer.device for peer in read_targets().peers} else r" \|"
    return r"\| decoding, beam 5 \| 32-true \| [\d,]+ sentences \| \d+ % \(\d+ to \d+\) \| [\d.]+ % \| " + rival


def turn_command(file: Path) -> str:
    """Return a command that prints its last two words, and appends them to a file."""
    return f"sh -c 'echo $0, $1 | tee -a {file}'"


@pytest.mark.more
@pytest.mark.slow
def test_trainings_and_translations_are_measured_and_stand_in_the_tables(
    tmp_path: Path, bench: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = small_settings()
    folder, run = str(tmp_path / "raw"), str(tmp_path / "run")
    write_multi30k(tmp_path / "raw")
    measure_training(dataclasses.replace(settings, rounds=1), folder)
    train_decoding_model(settings, folder, run)
    measure_decoding(dataclasses.replace(settings, between=turn_command(tmp_path / "turns")), folder, run)
    measure_agreement(settings, folder, run)
    measure_limit(settings)
    measure_device(settings, "cpu")
    measure_lengths(settings, "general feeding")
    once = dataclasses.replace(settings, device_precisions=["32-true"], rounds=1)
    measure_whole_training(once, folder, "trainer=cpu", "a GPU")
    printed = capsys.readouterr().out
    every = [json.loads(line) for line in printed.splitlines()]
    lines = {line["what"]: line for line in every}
    half = bool(bfloat16_instructions())
    for name in ("training, general feeding, decoder 16", "decoding, greedy", "decoding, beam 5"):
        training = name.startswith("training")
        own = {line["precision"]: line for line in every if line["what"] == name}
        reduced = {"bf16-mixed": half} if training else {"bf16": half, "int8": True}
        assert set(own) == {"32-true", *(precision for precision, possible in reduced.items() if possible)}
        for line in own.values():
            rounds = 1 if training else 2
            assert len(line["all"]) == len(line["step_rates"]) == rounds
            assert line["value"] == pytest.approx(sum(line["all"]) / rounds, rel=1e-4)
            assert line["work"] == own["32-true"]["work"] > 0
    # Counted on batches without padding, and by whole translations.
    assert lines["training, general feeding, decoder 16"]["work"] == pytest.approx(
        1e6 * lines["matrix multiply work, general feeding, decoder 16"]["value"], rel=1e-4
    )
    # One turn a round of each search in each precision; what they print is no measurement.
    assert (tmp_path / "turns").read_text().splitlines() == 2 * [
        f"{line['what']}, {line['precision']}" for line in every if line["what"].startswith("decoding, ")
    ]
    assert 0 < lines["decoding, greedy"]["pieces"] < 100
    for name in ("greedy", "beam 5"):
        assert lines[f"translated as by the plain search, {name}"]["value"] == 1
        assert lines[f"translated as by the plain search, {name}"]["sentences"] in (2, 3)
    for precision in ["32-true", *(["bf16-mixed"] if runs_bfloat16_lstm() else [])]:
        kind = f"2 sentences, {precision}"
        ways = {way: lines[f"device, general feeding, decoder 16, {kind}: {way}"] for way in ("ours", "plain loop")}
        ratio = lines[f"device, general feeding, decoder 16, {kind}: ours over plain loop"]
        assert ratio["all"][0] == pytest.approx(ways["ours"]["all"][0] / ways["plain loop"]["all"][0])
    trained = lines["training on a GPU, general feeding, decoder 16, 32-true"]
    assert 2 < trained["dev_loss"] < 6
    assert 0 <= trained["dev_bleu"] <= 100
    times = [json.loads(line)["value"] for line in printed.splitlines() if '"size": ' in line]
    file = tmp_path / "lines.jsonl"
    file.write_text(printed)
    bench("table", str(file))
    tables = capsys.readouterr().out
    assert f"Commits: {str(code_version()['commit'])[:12]}" in tables
    padding = r"\| padding in training, largest share of a variant \| [\d.]+ % \| under 5 % \| (yes|no) \|"
    assert re.search(padding, tables)
    assert re.search(row_of_beam_5(lines["decoding, beam 5"]["processor"]), tables)
    assert "| training on a GPU, general feeding, decoder 16, 32-true | a GPU | " in tables
    growth = f"us/target token by tokens a sentence | 3 6 | {math.log2(times[1] / times[0]):.2f} |"
    assert f"| training, general feeding, {growth}" in tables
    assert file.with_suffix(".svg").read_text().startswith("<svg")
    assert file.with_name("lines-memory.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=copy"], "a run with data=copy, not data=multi30k: train the model with bench.py model"),
        (["data=multi30k"], "its settings of tokenizer, encoder, decoder are not those of conf/bench.yaml: train"),
    ],
)
def test_a_run_that_cannot_decode_is_refused(
    tmp_path: Path, bench: Callable[..., None], overrides: list[str], message: str
) -> None:
    """Its corpus and its model have to be those of conf/bench.yaml."""
    write_config(RunFolder(tmp_path), compose_config(*overrides))
    for name in ("decode", "exact"):
        with pytest.raises(UserError, match=f"^{re.escape(f'{tmp_path}: {message}')}"):
            bench(name, "raw", str(tmp_path))


def test_the_table_reads_what_a_command_printed(
    tmp_path: Path, bench: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    bench("corpus", "2000")
    file = tmp_path / "lines.jsonl"
    file.write_text(capsys.readouterr().out)
    bench("table", str(file))
    assert "| corpus, opened and ordered, s by pairs | 2,000 |" in capsys.readouterr().out
    for content in ("no line of it", "{}", "1"):
        file.write_text(content)
        with pytest.raises(UserError, match="not the lines that bench"):
            bench("table", str(file))


@pytest.mark.parametrize(
    ("name", "counts"), [("speed", (2, 0)), ("speed-epyc", (1, 0)), ("speed-growth", (0, 5)), ("speed-gpu", (1, 0))]
)
def test_the_page_on_speed_has_the_tables_and_figures_of_recorded_measurements(
    tmp_path: Path,
    bench: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    name: str,
    counts: tuple[int, int],
) -> None:
    tables, figures = counts
    recorded, copy = ROOT / "results" / f"{name}.jsonl", tmp_path / f"{name}.jsonl"
    copy.write_bytes(recorded.read_bytes())
    bench("table", str(copy))
    page = (ROOT / "docs" / "speed.md").read_text()
    blocks = [block for block in capsys.readouterr().out.split("\n\n") if block.startswith("|")]
    for block in blocks[:tables]:
        assert block.strip() in page
    for figure in tmp_path.glob("*.svg"):
        assert figure.read_bytes() == (recorded.parent / figure.name).read_bytes()
    assert len(list(tmp_path.glob("*.svg"))) == figures


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("speed-precisions", ["processor"]),
        ("speed-searches", ["processor"]),
        ("speed-contended", []),
        ("speed-profile", ["with feeding, 32", "with feeding, bf16", "with bahdanau"]),
    ],
)
def test_the_page_on_speed_has_the_rows_of_recorded_measurements(
    tmp_path: Path,
    bench: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    name: str,
    left_out: list[str],
) -> None:
    """All of them, without some columns, perhaps in several tables; and those tables have no others.

    The cells of the profile have no ranges: a sentence of the page sums them up.
    """
    copy = tmp_path / f"{name}.jsonl"
    copy.write_bytes((ROOT / "results" / copy.name).read_bytes())
    bench("table", str(copy))
    printed = [cells_of(line) for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    columns = [n for n, head in enumerate(printed[0]) if not any(part in head for part in left_out)]
    ranges = name != "speed-profile"
    wanted = {tuple(row[n] if ranges else re.sub(r" \(.*\)", "", row[n]) for n in columns) for row in printed}
    lines = (ROOT / "docs" / "speed.md").read_text().splitlines()
    blocks = itertools.groupby(map(cells_of, lines), key=bool)
    tables = [table for table in (list(rows) for filled, rows in blocks if filled) if table[0] in wanted]
    assert {row for table in tables for row in table} == wanted
    assert len(printed) > 5


def cells_of(line: str) -> tuple[str, ...]:
    """Return the cells of a line of a table in Markdown; none of another line."""
    line = line.strip()
    return tuple(cell.strip() for cell in line[1:-1].split("|")) if line.startswith("|") else ()


def test_another_toolkit_takes_its_turn_after_each_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It waits for threads as the system does, what it prints is no measurement, and its failure ends nothing."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    metrics = {"train_target_tokens_per_second": 2.0, "padding_share": 0.01}
    monkeypatch.setattr("hourglass.bench.training._train_once", lambda *_: metrics)
    command = "sh -c 'echo $0, $1, ${GOMP_SPINCOUNT-none}; exit 3'"
    settings = dataclasses.replace(small_settings(), between=command, precisions=["32-true"])
    write_multi30k(tmp_path / "raw")
    measure_training(settings, str(tmp_path / "raw"))
    out, err = capfd.readouterr()
    assert err.splitlines() == 2 * ["training, general feeding, decoder 16, 32-true, none"]
    assert caplog.text.count("ended with status 3 after training, general feeding, decoder 16, 32-true") == 2
    (line,) = map(json.loads, out.splitlines())
    assert (line["all"], line["between"]) == ([2.0, 2.0], command)


def test_mistakes_on_the_command_line_end_in_one_line(bench: Callable[..., None]) -> None:
    for words, message in (
        ([], r"command: not set; usage: python pipelines/bench\.py COMMAND"),
        (["quickly"], r"command=quickly: no such choice; choose from activity, beams, cells, compared"),
        (["table"], r"FILE: not given; usage: python pipelines/bench\.py table FILE$"),
        (["decode", "raw"], r"RUN: not given; usage: python pipelines/bench\.py decode FOLDER RUN$"),
        (["limit", "raw"], r"raw: one word too many; usage: python pipelines/bench\.py limit$"),
        (["train", "nowhere"], r"nowhere: no such folder; it should have the raw files of data=multi30k$"),
        (["start", "nowhere"], r"nowhere: no such folder"),
        (["model", "nowhere", "run"], r"nowhere: no such folder"),
        (["train", str(ROOT)], r"data\.folder=\S+: no such file; tried \S+/train\.de, \S+, \S+, \S+$"),
        (["limit", "rounds=0"], r"rounds=0: .*greater than 0"),
    ):
        with pytest.raises(UserError, match=f"^{message}") as e:
            bench(*words)
        assert "\n" not in str(e.value)
    with pytest.raises(UserError, match=r"lengths all: no such variant; conf/bench\.yaml has general feeding, "):
        bench("lengths", "all")
    with pytest.raises(UserError, match="device tpu: choose cpu or, on a machine with a GPU, cuda"):
        bench("device", "tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="compiled: this machine has no GPU"):
            bench("compiled")
        with pytest.raises(UserError, match="gpu: this machine has no GPU"):
            bench("gpu", "raw")
    for command, reason in (
        ("nowhere", "no such program"),
        ("''", "no such program"),
        ("sh 'a", "No closing quotation"),
    ):
        with pytest.raises(UserError, match=f"between={command}: {reason}"):
            dataclasses.replace(small_settings(), between=command)
    with pytest.raises(UserError, match="corpus 7: give a whole number of pairs, 300 or more"):
        bench("corpus", "7")


def test_the_parts_of_growth_have_the_settings_of_the_command(
    bench: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(command[2:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    bench("seconds=0.5", "growth", "corpus_pairs=[300,400]")
    assert {word for words in started for word in words if word in ("300", "400")} == {"300", "400"}
    assert [words[:1] for words in started[-2:]] == [["beams"], ["compared"]]
    assert all(words[-2:] == ["seconds=0.5", "corpus_pairs=[300,400]"] for words in started)


def test_help_has_a_line_for_each_command(bench: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    import bench as script

    with pytest.raises(SystemExit):
        bench("--help")
    lines = capsys.readouterr().out.splitlines()
    lines = lines[lines.index("Commands and their arguments:") :]
    for name, command in script.COMMANDS.items():
        assert [line.split() for line in lines if line.startswith(f"  {name} ")] == [
            [name, *command.arguments.split(), *command.summary.split()]
        ]
    assert max(map(len, lines)) <= 120
