"""Word embeddings: cosines by a plain loop, sums of words, and the map."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT, make_run, run_script

from hourglass.analysis.embeddings import PLACES, Term, WordEmbeddings, read_terms, word_maps
from hourglass.errors import UserError
from hourglass.models.checkpoint import Trained, load_trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("run"), "attention=none", "trainer.test=false", "trainer.target_tokens=500")
    return run.path


@pytest.fixture(scope="module")
def kept() -> Trained:
    return load_trained(ROOT / "results" / "kjv_web" / "models" / "luong_general" / "checkpoints" / "best.ckpt")


def cosine(one: list[float], other: list[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def unit(vector: list[float]) -> list[float]:
    return [value / math.sqrt(sum(each * each for each in vector)) for value in vector]


def test_the_nearest_of_a_sum_as_by_a_plain_loop(kept: Trained) -> None:
    embeddings = WordEmbeddings.of(kept, "target")
    tokenizer = kept.vocabularies.target
    vectors = dict(enumerate(kept.model.embedding.weight.tolist()))
    ids = {word: tokenizer.encode([word])[0] for word in ("king", "man", "woman", "righteously")}
    assert [len(ids[word]) for word in ("king", "man", "woman")] == [1, 1, 1]
    assert len(ids["righteously"]) > 1

    def mean(word: str) -> list[float]:
        rows = [vectors[index] for index in ids[word]]
        return unit([sum(column) / len(rows) for column in zip(*rows, strict=True)])

    for text, signs in (
        ("king", {"king": 1}),
        ("king - man + woman", {"king": 1, "man": -1, "woman": 1}),
        ("righteously + king", {"righteously": 1, "king": 1}),
    ):
        total = [sum(column) for column in zip(*([s * x for x in mean(w)] for w, s in signs.items()), strict=True)]
        asked = {ids[word][0] for word in signs if len(ids[word]) == 1}
        scored = {index: cosine(vectors[index], total) for index in embeddings.words if index not in asked}
        best = sorted(scored, key=scored.__getitem__, reverse=True)[:5]
        result = embeddings.nearest(read_terms(text), 5)
        assert [word for word, _ in result] == [tokenizer.decode([[index]])[0] for index in best]
        assert [score for _, score in result] == pytest.approx([scored[index] for index in best], abs=1e-5)


def test_the_map_is_the_plane_of_most_variance(kept: Trained) -> None:
    words, places, shown = WordEmbeddings.of(kept, "source").plane(40)
    assert len(words) == len(places) == 40
    assert words[0].isalpha()
    first = WordEmbeddings.of(kept, "source")
    rows = torch.nn.functional.normalize(first.vectors[first.words[:40]], dim=1)
    spectrum = torch.linalg.eigvalsh(torch.cov(rows.T, correction=0).double())
    assert shown == pytest.approx(float(spectrum[-2:].sum() / spectrum.sum()), rel=1e-4)
    assert places.var(0, correction=0).tolist() == pytest.approx(spectrum[-2:].flip(0).tolist(), rel=1e-3)


def test_the_maps_of_a_page_are_that_plane_in_whole_numbers(kept: Trained) -> None:
    (only,) = word_maps(kept, 40)  # decoder.tie=all: both sides share one embedding.
    assert only.side == "source and target"
    words, places, shown = WordEmbeddings.of(kept, "target").plane(40)
    assert (only.words, only.shown) == (words, pytest.approx(shown, abs=1e-4))
    whole = torch.tensor(only.places).float()
    assert whole.abs().max() == PLACES
    torch.testing.assert_close(whole / PLACES, places / places.abs().max(), atol=1 / PLACES, rtol=0)


@pytest.mark.parametrize("text", ["", "king -", "king man", "- king", "king + - man", "king * man"])
def test_what_is_no_sum_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="not a word, nor words with"):
        read_terms(text)


def test_a_sum_is_read() -> None:
    assert read_terms(" king - man  + well-known ") == [Term("king", 1), Term("man", -1), Term("well-known", 1)]


def test_words_and_map_by_command(folder: Path, tmp_path: Path, kept: Any) -> None:
    run = ROOT / "results" / "kjv_web" / "models" / "luong_general"
    map_file = tmp_path / "map.svg"
    done = run_script("pipelines/embeddings.py", str(run), "near=king", "count=3", f"map={map_file}", "map_words=20")
    assert len(done.stdout.partition("\n\n")[0].splitlines()) == 3
    assert "begin a word" in done.stdout
    assert map_file.read_text().count("<text") > 20
    for words, message in (
        ([str(run)], "nothing is asked: set near=king"),
        ([str(run), "near=5"], "near=5: not a word as it stands: write a number, true or false in quotes, near='"),
        ([str(run), 'near="中"'], "near: the vocabulary of this run does not have the word '中'"),
        ([str(folder), "near=s1"], "side=target: no piece of this run's vocabulary is a word"),
        ([str(tmp_path), "near=king"], "not a run folder"),
        ([str(run), "near=king", "side=middle"], "side=middle"),
        ([str(run), 'near="king - king"'], "near: the words cancel each other"),
        ([str(run), f"map={map_file}", "map_words=2"], "map: 2 words with vectors of size 192 make no plane"),
    ):
        failed = run_script("pipelines/embeddings.py", *words)
        assert failed.returncode == 1
        assert message in failed.stderr
        assert "Traceback" not in failed.stderr
