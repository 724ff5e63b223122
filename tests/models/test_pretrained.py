"""Pretrained embeddings: which rows a file of word2vec or GloVe fills, and which files are refused."""

import gzip
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ENCODER_NAMES, SMALL, compose_config, make_run, tiny_model

from hourglass.data.tokenizer import Vocabularies
from hourglass.errors import UserError
from hourglass.models.checkpoint import load_trained
from hourglass.models.pretrained import check_files, fill_embeddings
from hourglass.training.preparation import prepare
from hourglass.training.settings import check_settings


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Vocabularies:
    config = compose_config(*SMALL, f"cache={tmp_path_factory.mktemp('cache')}")
    return prepare(config, check_settings(config)).vocabularies


def settings(file: Path, width: int = 12, group: str = "decoder") -> dict[str, Any]:
    other = {"encoder": "decoder", "decoder": "encoder"}[group]
    return {
        group: {"embedding_file": str(file), "embedding_size": width},
        other: {"embedding_file": None, "embedding_size": width},
    }


def vector(start: float) -> list[float]:
    return [start + i / 16 for i in range(12)]


def line(word: str, start: float) -> str:
    return " ".join([word, *(str(x) for x in vector(start))]) + "\n"


@pytest.mark.parametrize("form", ["glove", "word2vec", "gz"])
def test_the_rows_of_known_words_are_those_of_the_file(
    tmp_path: Path, vocabularies: Vocabularies, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    text = line("s1", 1) + line(". . .", 2) + line("s3", 3) + line("s1", 4) + line("elsewhere", 5)
    file = tmp_path / ("vectors.gz" if form == "gz" else "vectors.txt")
    text = f"5 12\n{text}" if form == "word2vec" else text
    file.write_bytes(gzip.compress(text.encode()) if form == "gz" else text.encode())
    model = tiny_model("luong_general", {"decoder.tie": "output"}, vocabulary=vocabularies.target.size)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    check_files(settings(file))
    with caplog.at_level("INFO"):
        fill_embeddings(model, settings(file), vocabularies)
    pieces = vocabularies.target.pieces(range(vocabularies.target.size))
    for row, piece in enumerate(pieces):
        # The first s1 counts.
        expected = {"\u2581s1": vector(1), "\u2581s3": vector(3)}.get(piece)
        wanted = before["embedding.weight"][row] if expected is None else torch.tensor(expected, dtype=torch.double)
        torch.testing.assert_close(model.embedding.weight[row], wanted)
    assert caplog.messages == ["decoder.embedding_file: 2 of 6 pieces found (33.3 %)"]
    assert torch.equal(model.output.weight, model.embedding.weight)
    assert torch.equal(model.state_dict()["encoder.embedding.weight"], before["encoder.embedding.weight"])
    fill_embeddings(model, settings(file, group="encoder"), vocabularies)
    assert not torch.equal(model.state_dict()["encoder.embedding.weight"], before["encoder.embedding.weight"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2 3\nb 1 2 3\n", r"vectors:1: vectors of width 3, and decoder\.embedding_size=12: set .*size=3"),
        ("2 3\na 1 2 3\nb 1 2 3\n", r"vectors:1: vectors of width 3"),
        (line("s1", 1) + "s2 1 2\n", "vectors:2: not a word and 12 numbers"),
        (line("s1", 1) * 2 + "s2 1 2\n", "vectors:3: not a word and 12 numbers"),
        (line("s1", 1) * 2 + line("s2", 1).replace("1.0", "one"), "vectors:3: not a word and 12 numbers"),
        (line("s1", 1) * 2 + line("s2", 1).replace("1.0", "nan"), "vectors:3: not a word and 12 numbers"),
        (line("nowhere", 1), "none of the 6 pieces of the vocabulary is in it: name a file of this language"),
        ("", "the file is empty"),
        ("5 \u00b2\n", "vectors:1: not a word and its numbers"),
        (line("s1", 1).replace(" ", "\t"), "vectors:1: not a word and its numbers with single spaces"),
        (". . . 1 2 3\n", r"vectors:1: vectors of width 3, and .*size=12: set decoder\.embedding_size=3"),
        ("7 1 2 3\n", "vectors:1: vectors of width 3"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, vocabularies: Vocabularies, text: str, message: str) -> None:
    (tmp_path / "vectors").write_text(text)
    model = tiny_model("luong_general", {"decoder.tie": "output"}, vocabulary=vocabularies.target.size)
    with pytest.raises(UserError, match=message):
        fill_embeddings(model, settings(tmp_path / "vectors"), vocabularies)


def test_a_missing_file_and_another_width_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "narrow").write_text("a 1 2 3\n")
    for file, message in (("no", "cannot be read"), ("narrow", "vectors of width 3")):
        with pytest.raises(UserError, match=message):
            check_files(compose_config(*SMALL, f"decoder.embedding_file={tmp_path / file}"))
    with pytest.raises(UserError, match=r"decoder\.tie=all both sides have one matrix: set decoder\.embedding_file "):
        check_settings(compose_config(*SMALL, f"encoder.embedding_file={tmp_path / 'narrow'}"))


@pytest.mark.parametrize("encoder", [name for name in ENCODER_NAMES if name != "blind"])
def test_every_encoder_has_a_source_embedding_to_fill(encoder: str, tmp_path: Path, vocabularies: Vocabularies) -> None:
    file = tmp_path / "vectors"
    file.write_text(line("s1", 1))
    model = tiny_model(changes={"decoder.tie": "output"}, encoder=encoder, vocabulary=vocabularies.source.size)
    fill_embeddings(model, settings(file, group="encoder"), vocabularies)
    embedding: Any = model.encoder.embedding
    (row,) = vocabularies.source.encode(["s1"])[0]
    torch.testing.assert_close(embedding.weight[row], torch.tensor(vector(1), dtype=torch.double))


def test_a_training_begins_with_them(tmp_path: Path) -> None:
    """At a learning rate that moves nothing they are in the checkpoint, which needs the file no more."""
    (tmp_path / "vectors").write_text(line("s1", 1))
    words = ("optimizer.learning_rate=1e-30", "trainer.target_tokens=300", "trainer.test=false")
    file = f"decoder.embedding_file={tmp_path / 'vectors'}"
    run = make_run(tmp_path, *words, file)
    (tmp_path / "vectors").unlink()
    trained = load_trained(run.best)
    (row,) = trained.vocabularies.target.encode(["s1"])[0]
    torch.testing.assert_close(trained.model.embedding.weight[row], torch.tensor(vector(1)))
