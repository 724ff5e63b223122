"""Translating lines: one out for each in, in order, by the function and by the command."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, compose_config
from test_train import SMALL

import train
from hourglass import translation
from hourglass.checkpoints import Trained, load_trained
from hourglass.runs import RunFolder, create_run
from hourglass.search import SearchSettings
from hourglass.settings import check_settings
from hourglass.translation import translate


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("run")
    config = compose_config(*SMALL, f"cache={folder / 'cache'}", f"run_dir={folder / 'one'}")
    job = train.Job(create_run(config["run_dir"], [], continues=False), config, check_settings(config))
    train.train(job)
    return job.run


@pytest.fixture(scope="module")
def trained(run: RunFolder) -> Trained:
    return load_trained(run.best)


def settings(beam: int = 2, batch_tokens: int = 200) -> SearchSettings:
    return SearchSettings(
        beam=beam, length_penalty=1.0, output_ratio=2.0, output_extra=10, output_most=40, batch_tokens=batch_tokens
    )


def some_lines(count: int) -> list[str]:
    draw = random.Random(1)
    return [" ".join(draw.choices(["s0", "s1", "s2", "s3"], k=draw.randrange(9))) for _ in range(count)]


def test_order_is_kept_whatever_the_batches(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = some_lines(60)
    alone = [text for line in lines for text in translate(trained.model, trained.vocabularies, [line], settings())]
    monkeypatch.setattr(translation, "WINDOW", 7)
    for batch_tokens in (1, 50, 10_000):
        done: list[int] = []
        found = translate(
            trained.model, trained.vocabularies, lines, settings(batch_tokens=batch_tokens), progress=done.append
        )
        assert list(found) == alone
        assert sum(done) == len(lines)
    assert all((text == "") == (line == "") for text, line in zip(alone, lines, strict=True) if not line)


@pytest.mark.parametrize("by_characters", [False, True])
def test_no_more_is_read_than_a_window(trained: Trained, monkeypatch: pytest.MonkeyPatch, by_characters: bool) -> None:
    monkeypatch.setattr(translation, "WINDOW_CHARACTERS" if by_characters else "WINDOW", 30 if by_characters else 3)
    read: list[str] = []

    def source() -> Iterator[str]:
        for line in some_lines(20):
            read.append(line)
            yield line

    found = translate(trained.model, trained.vocabularies, source(), settings())
    assert read == []
    next(found)
    assert len(read) == 3 if not by_characters else 30 <= sum(map(len, read)) < 60


def test_a_line_of_100_000_characters_is_translated_with_a_warning(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["s1 s2", "s1 " * 33_333 + "s", "s3"]
    assert len(lines[1]) == 100_000
    with caplog.at_level("WARNING", logger="hourglass"):
        found = list(translate(trained.model, trained.vocabularies, lines, settings(beam=1)))
    assert len(found) == 3
    assert found[1]
    assert "line 2 has" in caplog.text
    assert "line 1" not in caplog.text


# ---- The command -----------------------------------------------------------------------------------------------------


def command(text: bytes, *overrides: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, str(ROOT / "src" / "translate.py"), *overrides], input=text, capture_output=True, check=False
    )


def test_the_command_translates_as_the_training_did(run: RunFolder) -> None:
    rows = [line.split("\t") for line in run.translations.read_text().splitlines()[1:]]
    text = "".join(f"{source}\n" for _, source, _, _ in rows) + "\n\ufeff\U0001f600 \u05d0\r\nno end"
    done = command(text.encode(), f"run={run.path}")
    assert done.returncode == 0
    out = done.stdout.decode().split("\n")
    assert len(out) == len(rows) + 3 + 1
    assert out[: len(rows)] == [hypothesis for *_, hypothesis in rows]
    assert out[len(rows)] == ""
    assert "lines" in done.stderr.decode()


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (b"a\n\xff\n", [], "error: standard input:2: not UTF-8"),
        (b"a\n", ["checkpoint=worst"], "error: translate.checkpoint=worst: "),
    ],
)
def test_a_mistake_is_one_clear_line(run: RunFolder, text: bytes, overrides: list[str], message: str) -> None:
    done = command(text, f"run={run.path}", *overrides)
    assert done.returncode != 0
    assert message in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert not done.stdout


def test_a_reader_that_leaves_early_is_no_error(run: RunFolder) -> None:
    script = f"yes 's1 s2 s3' | head -9000 | {sys.executable} {ROOT}/src/translate.py run={run.path} | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr.decode()


def test_no_lines_in_no_lines_out(run: RunFolder) -> None:
    assert list(translate(load_trained(run.best).model, load_trained(run.best).vocabularies, [], settings())) == []


def test_the_run_has_to_be_named(tmp_path: Path) -> None:
    done = command(b"a\n")
    assert done.returncode != 0
    assert "error: run: not set; python src/translate.py run=PATH" in done.stderr.decode()
