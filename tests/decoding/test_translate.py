"""Translating lines: one out for each in, in order, by the function and by the command."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ROOT, make_run, plain_search, run_script_bytes

import translate as translate_script
from hourglass.config.command_line import one_line_errors
from hourglass.data.pieces import UNK
from hourglass.decoding import translate as translate_module
from hourglass.decoding.copied import mark_copied
from hourglass.decoding.search import Hypothesis, SearchSettings
from hourglass.decoding.translate import ScoredTranslation, translate
from hourglass.decoding.word_alignment import target_words
from hourglass.errors import UserError
from hourglass.models.checkpoint import Trained, load_average, load_trained
from hourglass.runs.folder import RunFolder
from hourglass.training.settings import check_settings


@pytest.fixture(scope="module")
def trained(small_run: RunFolder) -> Trained:
    return load_trained(small_run.best)


def settings(beam: int = 2, batch_tokens: int = 200) -> SearchSettings:
    return plain_search(beam, output_ratio=2.0, output_extra=10, output_most=40, batch_tokens=batch_tokens)


def some_lines(count: int) -> list[str]:
    draw = random.Random(1)
    return [" ".join(draw.choices(["s0", "s1", "s2", "s3"], k=draw.randrange(9))) for _ in range(count)]


def test_order_is_kept_whatever_the_batches(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = some_lines(60)
    alone = [text for line in lines for text in translate(trained.model, trained.vocabularies, [line], settings())]
    monkeypatch.setattr(translate_module, "WINDOW", 7)
    for batch_tokens in (1, 50, 10_000):
        done: list[int] = []
        translations = translate(
            trained.model, trained.vocabularies, lines, settings(batch_tokens=batch_tokens), progress=done.append
        )
        assert list(translations) == alone
        assert sum(done) == len(lines)
    assert all((text == "") == (line == "") for text, line in zip(alone, lines, strict=True) if not line)


@pytest.mark.parametrize("by_characters", [False, True])
def test_no_more_is_read_than_a_window(trained: Trained, monkeypatch: pytest.MonkeyPatch, by_characters: bool) -> None:
    monkeypatch.setattr(
        translate_module, "WINDOW_CHARACTERS" if by_characters else "WINDOW", 30 if by_characters else 3
    )
    read: list[str] = []

    def source() -> Iterator[str]:
        for line in some_lines(20):
            read.append(line)
            yield line

    translations = translate(trained.model, trained.vocabularies, source(), settings())
    assert read == []
    next(translations)
    assert len(read) == 3 if not by_characters else 30 <= sum(map(len, read)) < 60


def test_a_line_of_100_000_characters_is_translated_with_a_warning(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["s1 s2", "s1 " * 33_333 + "s", "s3"]
    assert len(lines[1]) == 100_000
    with caplog.at_level("WARNING", logger="hourglass"):
        translations = list(translate(trained.model, trained.vocabularies, lines, settings(beam=1)))
    assert len(translations) == 3
    assert translations[1]
    assert "line 2 has" in caplog.text
    assert "line 1" not in caplog.text


# ---- The command -----------------------------------------------------------------------------------------------------


def command(text: bytes, *overrides: str) -> subprocess.CompletedProcess[bytes]:
    return run_script_bytes("src/translate.py", *overrides, stdin=text)


@pytest.mark.slow
def test_the_command_translates_as_the_training_did(small_run: RunFolder) -> None:
    rows = [line.split("\t") for line in small_run.translations.read_text().splitlines()[1:]]
    text = "".join(f"{source}\n" for _, source, _, _ in rows) + "\n\ufeff\U0001f600 \u05d0\r\nno end"
    done = command(text.encode(), f"run={small_run.path}")
    assert done.returncode == 0
    out = done.stdout.decode().split("\n")
    assert len(out) == len(rows) + 3 + 1
    assert out[: len(rows)] == [hypothesis for *_, hypothesis in rows]
    assert out[len(rows)] == ""
    assert "lines" in done.stderr.decode()


@pytest.mark.slow
def test_lists_have_a_line_a_translation(small_run: RunFolder) -> None:
    text = b"s1 s2\n\ns3\n"
    best = command(text, f"run={small_run.path}", "search=beam", "search.beam=3").stdout.decode().splitlines()
    done = command(text, f"run={small_run.path}", "search=beam", "search.beam=3", "n_best=2")
    rows = [line.split(" ||| ") for line in done.stdout.decode().splitlines()]
    assert [number for number, *_ in rows] == ["0", "0", "1", "2", "2"]  # Without words there is one translation.
    assert [rows[0][1], rows[2][1], rows[3][1]] == best
    assert float(rows[0][2]) >= float(rows[1][2])
    assert float(rows[3][2]) >= float(rows[4][2])


@pytest.mark.slow
def test_alignments_are_written_beside_the_same_translations(small_run: RunFolder) -> None:
    """A line each, in order; links of words that are there; weights of pieces that add up."""
    lines = [*some_lines(20), ""]
    text = "".join(f"{line}\n" for line in lines).encode()
    plain = command(text, f"run={small_run.path}").stdout.decode().splitlines()
    pharaoh = command(text, f"run={small_run.path}", "output=pharaoh").stdout.decode().splitlines()
    assert [row.split(" |||")[0] for row in pharaoh] == plain
    rows = [
        json.loads(row) for row in command(text, f"run={small_run.path}", "output=json").stdout.decode().splitlines()
    ]
    assert [row["source"] for row in rows] == lines
    assert [row["translation"] for row in rows] == plain
    for row, links in zip(rows, pharaoh, strict=True):
        pairs = [tuple(map(int, link.split("-"))) for link in links.partition(" |||")[2].split()]
        assert pairs == [tuple(link) for link in row["alignment"]]
        assert all(s < len(row["source"].split()) and t < len(row["translation"].split()) for s, t in pairs)
        assert [len(weights) for weights in row["weights"]] == [len(row["source_pieces"])] * len(row["target_pieces"])
        assert all(sum(weights) == pytest.approx(1, abs=0.01) for weights in row["weights"])
    # Whatever stands for a space: what is aligned is what was translated.
    odd = command("s1\u00a0s2\ts3\u3000s1\n".encode(), f"run={small_run.path}", "output=json").stdout.decode()
    assert json.loads(odd)["source"] == "s1 s2 s3 s1"
    assert len(json.loads(odd)["source_pieces"]) == 5
    several = command(b"s1 s2\n", f"run={small_run.path}", "output=json", "search=beam", "search.beam=3", "n_best=2")
    assert [json.loads(row)["line"] for row in several.stdout.decode().splitlines()] == [0, 0]


@pytest.mark.slow
def test_a_prompt_draws_what_it_looks_at(small_run: RunFolder) -> None:
    done = command(b"s1 s2 s3\n\n", f"run={small_run.path}", "interactive=true")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[0] == command(b"s1 s2 s3\n", f"run={small_run.path}").stdout.decode().splitlines()[0]
    assert any(line.split() == ["s", "s", "s", "d"] for line in lines)  # The heads: s1, s2, s3 and (end), letters down.
    # After an error in a line, the prompt goes on with the next.
    done = command(b"\xff\ns1\n", f"run={small_run.path}", "interactive=true")
    assert done.stdout.decode().splitlines()[0].startswith("error: standard input:1: ")
    assert len(done.stdout.decode().splitlines()) > 2


@pytest.mark.more
@pytest.mark.slow
def test_a_prompt_draws_no_long_line_and_sends_no_control_character(small_run: RunFolder) -> None:
    done = command(b"s1 " * 101 + b"\n" + b"s1 \x1b[1ms2\n", f"run={small_run.path}", "interactive=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines()[1] == "(more than 100 words: nothing is drawn)"
    assert b"\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) > 3  # The second line is drawn.


def test_weights_of_few_long_lines_are_held_at_once() -> None:
    class Words:
        def encode(self, texts: list[str]) -> list[list[int]]:
            return [[7] * len(text.split()) for text in texts]

    def rows(*lengths: int) -> list[Any]:
        return [
            (i, " ".join(["a"] * length), ScoredTranslation("", 0.0, [5] * length)) for i, length in enumerate(lengths)
        ]

    def sizes(*lengths: int) -> list[int]:
        batches = list(translate_script.batch_for_weights(rows(*lengths), Words()))  # type: ignore[arg-type]
        assert [row for batch, _ in batches for row in batch] == rows(*lengths)
        assert all(
            len(source) == len(row[2].tokens) for batch, ids in batches for row, source in zip(batch, ids, strict=True)
        )
        return [len(batch) for batch, _ in batches]

    assert sizes() == []
    assert sizes(*[9] * 130) == [64, 64, 2]
    assert sizes(*[1999] * 7) == [3, 3, 1]  # 4 million weights each, of 12 at most.
    assert sizes(5, 9999, 5) == [1, 1, 1]


@pytest.mark.more
@pytest.mark.slow
def test_a_run_and_itself_translate_as_it_does(small_run: RunFolder) -> None:
    text = "".join(f"{line}\n" for line in some_lines(20)).encode()
    alone, together = (
        command(text, f"run={runs}") for runs in (small_run.path, f"[{small_run.path},{small_run.path}]")
    )
    assert together.returncode == 0, together.stderr
    assert together.stdout == alone.stdout


@pytest.mark.slow
def test_the_average_is_the_mean_of_the_kept_weights(tmp_path: Path) -> None:
    words = ("trainer.validations=3", "trainer.keep=2", "trainer.test=false", "trainer.scheduled_sampling=0.5")
    run = make_run(tmp_path, *words)
    kept = run.all_validated
    assert len(kept) == 2  # The last of three.
    first, other = (load_trained(path) for path in kept)
    assert first.step < other.step == load_trained(run.last).step
    average = load_average(kept)
    for name, weight in average.model.state_dict().items():
        expected = (first.model.state_dict()[name] + other.model.state_dict()[name]) / 2
        torch.testing.assert_close(weight, expected)
    # A resumed run may have another folder and another tracking server: it is the same training.
    content = torch.load(kept[0], weights_only=True)
    content["hourglass"]["config"] |= {"if_exists": "continue", "cache": "elsewhere"}
    torch.save(content, kept[0])
    done = command(b"s1 s2\n", f"run={run.path}", "checkpoint=average")
    (text,) = translate(average.model, average.vocabularies, ["s1 s2"], check_settings(first.config).search)
    assert done.stdout.decode() == f"{text}\n"


@pytest.mark.more
@pytest.mark.slow
def test_draws_hang_on_the_seed(small_run: RunFolder) -> None:
    text = b"s1 s2 s3 s4\n" * 20
    first, same, other = (
        command(text, f"run={small_run.path}", "search=sample", f"seed={seed}").stdout for seed in (1, 1, 2)
    )
    assert first == same != other
    assert len(set(first.splitlines())) > 10


@pytest.mark.more
@pytest.mark.slow
def test_runs_of_different_vocabularies_do_not_vote(small_run: RunFolder, trained: Trained, tmp_path: Path) -> None:
    other = make_run(tmp_path, "data.symbols=5", "data.vocabulary_size=9", "trainer.test=false")
    done = command(b"s1\n", f"run=[{small_run.path},{other.path}]")
    assert done.returncode != 0
    assert "have different vocabularies" in done.stderr.decode()


def test_a_translation_begins_with_its_prefix(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on as by a search of its own, whatever the batches; a line without words is its prefix alone."""
    lines, starts = ["s1 s2 s3", "s2", "", "s3 s3 s1 s0 s2"], ["s3  s3", "", "s1 s2", "new s0"]
    run = trained.model, trained.vocabularies
    monkeypatch.setattr(translate_module, "WINDOW", 3)
    whole = list(translate(*run, lines, settings(), prefixes=starts))
    assert whole[1] == next(translate(*run, ["s2"], settings()))
    assert whole[2] == "s1 s2"
    assert [text[:5] for text in (whole[0], whole[3])] == ["s3 s3", "new s"]  # An unknown word is spelt as given.
    rest = list(translate(*run, lines, settings(), prefixes=starts, with_prefix=False))
    assert [f"{a} {b}".strip() for a, b in zip(["s3 s3", "", "s1 s2", "new s0"], rest, strict=True)] == whole
    with pytest.raises(UserError, match=r"line 2: the prefix has 50 pieces and the translation may have 14, "):
        list(translate(*run, lines[:2], settings(), prefixes=["", "s1 " * 50]))


def test_a_line_may_have_a_prefix_of_its_own() -> None:
    values = translate_script.TranslateSettings(["a"], "best", 1, None, True, "text", False, 1, "cpu", 0)
    assert list(translate_script.read_sources(["a b\tc", "d\t"], values)) == [("a b", "c"), ("d", "")]
    with pytest.raises(UserError, match=r"standard input:2: 1 column instead of two, with prefix_column=true"):
        list(translate_script.read_sources(["a\tb", "c"], values))
    with pytest.raises(UserError, match=r"prefix=x and prefix_column=true: .* leave one out"):
        translate_script.check_options(replace(values, prefix="x"), settings())


@pytest.mark.parametrize(("prefix", "prefix_column"), [(None, False), ("x", False), (None, True)])
def test_no_line_is_kept_that_has_been_written(prefix: str | None, prefix_column: bool) -> None:
    """However long the input is, with prefixes and without."""
    alive = 0

    class Counted(translate_script.Line):
        def __new__(cls, *columns: str) -> "Counted":
            nonlocal alive
            alive += 1
            return super().__new__(cls, *columns)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    values = translate_script.TranslateSettings(["a"], "best", 1, prefix, prefix_column, "text", False, 1, "cpu", 0)
    lines = (Counted(f"s{number}", f"p{number}") for number in range(300))
    sources, copies, prefixes = translate_script.split_columns(lines, values)
    for number, (source, copy) in enumerate(zip(sources, copies, strict=True)):
        assert source == copy == f"s{number}"
        assert prefixes is None or next(prefixes) == f"p{number}"
    assert (prefixes is None) is (prefix is None and not prefix_column)
    assert alive < 100


@pytest.mark.parametrize(
    ("prefix", "advice"), [(5, "'prefix=\"5\"'"), (True, "'prefix=\"true\"'"), (["a", "b"], "prefix_column=true")]
)
def test_a_prefix_that_is_no_text_is_answered_by_what_to_write(prefix: object, advice: str) -> None:
    with pytest.raises(UserError, match=f"^prefix.*write .*{advice}"):
        translate_script.main({"run": ["a"], "prefix": prefix})


def test_the_command_takes_a_prefix(small_run: RunFolder) -> None:
    done = command(b"s1 s2\ts3 s0\ns2\ts1\n", f"run={small_run.path}", "prefix_column=true")
    first, second = done.stdout.decode().splitlines()
    assert first.startswith("s3 s0")
    assert second.startswith("s1")


def test_unknown_words_are_those_attended_to(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of unknown words is one piece; what attended to end-of-sentence stays unknown.

    Alignments count the words that are written, and copied words are marked in them.
    """
    vocabularies = trained.vocabularies
    (known,) = vocabularies.target.encode(["s1"])
    hypothesis = Hypothesis([*known, UNK, UNK], 0.0, 0.0, True, [0, 1, 3])
    monkeypatch.setattr(translate_module, "n_best", lambda *_, **__: [[hypothesis]])
    replacing = replace(settings(), replace_unknown=True)
    ((best,),) = translate_module.translate_n_best([trained.model], vocabularies, ["s1 new words s2"], replacing, 1)
    assert best.text == "s1 new words \u2047"
    words = target_words(vocabularies, best.tokens, "en", best.replaced)
    assert [list(numbers) for numbers in words] == [[0], [1, 2], [3]]
    assert mark_copied(vocabularies, "en", best, np.array([0.0, 1.0, 0.0])) == "s1 [new words] \u2047"
    (text,) = translate(trained.model, vocabularies, ["s1 new words s2"], settings())
    assert text == "s1 \u2047 \u2047"


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (b"a\n\xff\n", [], "error: standard input:2: not UTF-8"),
        (b"a\n", ["checkpoint=average"], "error: checkpoint=average: the run kept no validations' checkpoints: train "),
        (b"a\n", ["n_best=9"], "error: n_best=9 is more than search.beam="),
        (b"a\n", ["run=[]"], "error: run=[]: value should have at least 1 item"),
        (b"a\n", ["checkpoint=worst"], "error: checkpoint=worst: "),
    ],
)
def test_a_mistake_is_one_clear_line(small_run: RunFolder, text: bytes, overrides: list[str], message: str) -> None:
    done = command(text, f"run={small_run.path}", *overrides)
    assert done.returncode != 0
    assert message in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert not done.stdout


@pytest.mark.more
@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(small_run: RunFolder) -> None:
    script = f"yes 's1 s2 s3' | head -9000 | {sys.executable} {ROOT}/src/translate.py run={small_run.path} | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr.decode()


def test_no_lines_in_no_lines_out(small_run: RunFolder) -> None:
    assert (
        list(translate(load_trained(small_run.best).model, load_trained(small_run.best).vocabularies, [], settings()))
        == []
    )


def test_the_run_has_to_be_named(tmp_path: Path) -> None:
    done = command(b"a\n")
    assert done.returncode != 0
    assert "error: run: not set; usage: python src/translate.py RUN" in done.stderr.decode()


def test_want_of_memory_outside_a_training_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors():
        torch.empty(10**15)
    assert ended.value.code == 4
    message = capsys.readouterr().err
    assert re.fullmatch(
        r"error: out of memory \(.*\): free some, or .* a lower search\.batch_tokens or search\.beam\n", message
    )
    with pytest.raises(RuntimeError, match="something else"), one_line_errors():
        raise RuntimeError("something else")
