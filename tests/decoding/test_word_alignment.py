"""Words from pieces, links from weights: by hand, and against a model read one pair at a time."""

import itertools
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from helpers import tiny_model

from hourglass.corpora.languages import words_of
from hourglass.data.pieces import BOS, EOS, FIXED_PIECES
from hourglass.data.tokenizer import TokenizerSettings, Vocabularies, train_vocabularies
from hourglass.decoding.translate import ScoredTranslation
from hourglass.decoding.word_alignment import (
    check_weights,
    draw_alignment,
    links,
    read_weights,
    source_words,
    target_words,
    to_json,
    to_pharaoh,
    weight_decimals,
    word_weights,
    words_of_pieces,
)
from hourglass.errors import UserError

SOURCE = ["ein", " klein", "es", " Haus"]
TARGET = ["a", " hou", "se"]
# Rows: a, hou, se, end. Columns: ein, klein, es, Haus, end.
WEIGHTS = np.array(
    [[0.6, 0.1, 0.1, 0.1, 0.1], [0.1, 0.0, 0.0, 0.5, 0.4], [0.1, 0.2, 0.2, 0.1, 0.4], [0.0, 0.0, 0.0, 0.0, 1.0]]
)


def pieces_of(surfaces: list[str], language: str = "en") -> list[range]:
    ends = list(itertools.accumulate(map(len, surfaces)))
    return words_of_pieces("".join(surfaces), list(zip([0, *ends], ends, strict=False)), language)


def words_by_piece(surfaces: list[str], language: str = "en") -> list[list[int]]:
    return [list(words) for words in pieces_of(surfaces, language)]


def train(kind: Any, lines: list[str], folder: Path, *, normalization: Any = "identity") -> Vocabularies:
    """Train a joint vocabulary that has all words or letters of the lines, or some more pieces."""
    characters = len(set("".join(lines)) | {" "})
    words = len({word for line in lines for word in line.split()})
    size = FIXED_PIECES + {"word": words, "bpe": characters + 4, "char": characters}[kind]
    settings = TokenizerSettings(kind, size, True, 1.0, False, normalization, 100)
    rows = datasets.Dataset.from_dict({"source": lines * 5, "target": lines * 5})
    return train_vocabularies(settings, rows, "0" * 64, folder)


def test_words_by_hand() -> None:
    assert words_by_piece(SOURCE) == [[0], [1], [1], [2]]
    assert words_by_piece(["a", "b", " ", "c"]) == [[0], [0], [1], [1]]
    # Spaces alone make no word, and a run of unknown words is one piece of several words.
    assert words_by_piece([" ", " ", " Haus", " "]) == [[0], [0], [0], [0]]
    assert words_by_piece(["ein", " foo bar", " Haus"]) == [[0], [1, 2], [3]]
    assert words_by_piece([" ", ""]) == [[], []]
    # Without spaces, each character is a word; bytes without a character belong to the next one.
    assert words_by_piece(["他们", "", "在", "家 里", " ", "。"], "zh") == [[0, 1], [2], [2], [3, 4], [5], [5]]
    words = word_weights(WEIGHTS, pieces_of(SOURCE), pieces_of(TARGET))
    assert words == pytest.approx(np.array([[0.6, 0.2, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]]))
    assert words.sum(1) == pytest.approx(np.ones(2))
    assert links(words) == [(0, 0)]  # The second word looks at the end more than at any word.
    assert to_pharaoh(np.array([[0.1, 0.6, 0.3], [0.8, 0.1, 0.1]])) == "1-0 0-1"


def test_a_piece_of_two_words_counts_for_both() -> None:
    source = pieces_of(["他们", "家"], "zh")
    words = word_weights(np.array([[0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0, 0, 1]]), source, pieces_of(["a", " b c"]))
    assert words == pytest.approx(np.array([[0.25, 0.25, 0.3, 0.2], [0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.7, 0.1]]))
    assert to_pharaoh(words) == "2-0 2-1 2-2"


CHINESE = ["他们在家里。", "我们在家", "他喝水", "他们 喝水。", "in 家"]


@pytest.mark.parametrize("kind", ["word", "bpe", "char"])
@pytest.mark.parametrize("normalization", ["identity", "nfkc"])
@pytest.mark.parametrize("text", ["他们在家。", "他 喝 水", "⑩豈…\u2581Ω水"])
def test_words_of_chinese_are_its_characters(kind: str, normalization: str, text: str, tmp_path: Path) -> None:
    vocabularies = train(kind, CHINESE, tmp_path, normalization=normalization)
    characters = [character for character in text if character != " "]
    assert words_of(text, "zh") == characters
    numbers = source_words(vocabularies, text, "zh")
    assert {number for words in numbers for number in words} == set(range(len(characters)))
    (ids,) = vocabularies.target.encode([text])
    written = words_of(vocabularies.target.decode([ids])[0], "zh")
    numbers = target_words(vocabularies, ids, "zh")
    assert {number for words in numbers for number in words} == set(range(len(written)))


def test_links_of_a_target_without_spaces_are_between_words_and_characters(tmp_path: Path) -> None:
    vocabularies = train("char", [*CHINESE, "they run home"], tmp_path)
    (source,), (target,) = vocabularies.source.encode(["they run"]), vocabularies.target.encode(["他们 家"])
    weights = np.full((len(target) + 1, len(source) + 1), 0.01)
    labels = vocabularies.source.pieces(source), vocabularies.target.pieces(target)
    for character, letter in (("他", "n"), ("们", "y"), ("家", "r")):
        weights[labels[1].index(character), labels[0].index(letter)] = 0.9
    written = json.loads(
        to_json(vocabularies, ("en", "zh"), "they run", ScoredTranslation("他们 家", 0.0, target), weights)
    )
    assert written["alignment"] == [[1, 0], [0, 1], [1, 2]]


def test_a_source_that_spells_the_mark_of_a_space_has_no_more_words(tmp_path: Path) -> None:
    vocabularies = train("word", ["s1 s2 s3", "s3 s2"], tmp_path)
    for text, words in (("s1\u2581s2 s3", [[0], [1]]), ("\u2581", [[0]]), ("s1 s2 s3", [[0], [1], [2]])):
        assert [list(numbers) for numbers in source_words(vocabularies, text, "en")] == words


@pytest.mark.parametrize("pieces", [1, 3, 301, 701, 1501, 20_001])
def test_rounded_weights_still_sum_to_one(pieces: int, tmp_path: Path) -> None:
    """With four decimals, 1,501 equal weights summed to 1.0507."""
    rows = np.stack([np.full(pieces, 1 / pieces), np.random.default_rng(1).dirichlet(np.full(pieces, 0.1))])
    vocabularies = train("word", ["s1 s2 s3", "s3 s2"], tmp_path)
    text = " ".join(["s1"] * (pieces - 1))
    (target,) = vocabularies.target.encode(["s1"])
    written = json.loads(to_json(vocabularies, ("en", "en"), text, ScoredTranslation("s1", 0.0, target), rows))
    assert np.sum(written["weights"], axis=1) == pytest.approx(np.ones(2), abs=1e-3)
    assert len(written["source_pieces"]) == pieces
    assert weight_decimals(10) == 4


LINES = ["the small house", "a house", "the house is small", "small is the house"]


@pytest.mark.parametrize("kind", ["word", "bpe", "char"])
@pytest.mark.parametrize("text", ["the small house", "the unknown small", "zz yy house", "the", "x"])
def test_words_are_those_of_the_text(kind: str, text: str, tmp_path: Path) -> None:
    """On the source side those of the text, on the target side those of what is written, unknown ones too."""
    vocabularies = train(kind, LINES, tmp_path)
    numbers = source_words(vocabularies, text, "en")
    (ids,) = vocabularies.source.encode([text])
    assert len(numbers) == len(ids)
    assert {number for words in numbers for number in words} == set(range(len(text.split())))
    written = vocabularies.target.decode([ids])[0].split()
    numbers = target_words(vocabularies, ids, "en")
    assert {number for words in numbers for number in words} == set(range(len(written)))


def test_nothing_has_no_links() -> None:
    words = word_weights(np.ones((1, 1)), [], [])
    assert words.shape == (0, 1)
    assert to_pharaoh(words) == ""
    assert "".join(draw_alignment(words, [], [], 80).split()) == "(end)"


def test_a_picture_by_hand() -> None:
    picture = draw_alignment(np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]), ["ab", "c"], ["x", "yz"], 80)
    assert picture.splitlines() == [
        "         (",
        "         e",
        "         n",
        "   a     d",
        "   b  c  )",
        " x \u2588",
        "yz    \u2592  \u2592",
    ]


def test_a_picture_of_wide_characters_and_none_that_steer_the_terminal() -> None:
    picture = draw_alignment(np.array([[0.9, 0.1, 0.0]]), ["\u732b", "a\x1b[31mb"], ["\u72ac"], 80)
    assert "\x1b" not in picture
    assert picture.splitlines()[-1] == "\u72ac \u2588"
    assert picture.splitlines()[-2] == "   \u732b b  )"
    assert [line.split()[0] for line in picture.splitlines()[:-2]] == list("a\u241b[31m")


def test_a_long_source_is_drawn_in_parts_that_fit() -> None:
    words = np.full((2, 31), 1 / 31)
    picture = draw_alignment(words, [f"w{i}" for i in range(30)], ["one", "two"], 40)
    assert picture.count("one") == 3
    assert max(map(len, picture.splitlines())) <= 40


@pytest.mark.parametrize("count", [1, 2])
def test_weights_are_those_of_each_pair_alone(count: int) -> None:
    models = [tiny_model("bahdanau", spread=0.4 + 0.2 * number) for number in range(count)]
    sources, targets = [[5, 6, 7], [8], [9, 5]], [[6, 5], [7, 8, 9, 5], []]
    for item, source, target in zip(read_weights(models, sources, targets, 8), sources, targets, strict=True):
        alone = []
        for model in models:
            memory = model.encode(torch.tensor([[*source, EOS]]), torch.tensor([len(source) + 1]))
            prepared, state = model.decoder.attention.prepare(memory), model.decoder.start(memory)
            rows = []
            for t, token in enumerate([BOS, *target]):
                _, state, weights = model.decoder.step(model.embedding(torch.tensor([token])), state, prepared, t)
                assert weights is not None
                rows.append(weights[0].detach().numpy())
            alone.append(np.stack(rows))
        assert item == pytest.approx(np.mean(alone, 0), abs=1e-9)


def test_without_weights_it_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"output=json: attention=none has no weights to align by: set output=text"):
        check_weights([tiny_model(), tiny_model("none")], "output=json", "set output=text")
