"""Words from pieces, links from weights: by hand, and against a model read one pair at a time."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from helpers import tiny_model

from hourglass.data.pieces import BOS, EOS, UNK
from hourglass.data.tokenizer import TokenizerSettings, train_vocabularies
from hourglass.decoding.word_alignment import (
    SPACE,
    check_weights,
    draw_alignment,
    links,
    read_weights,
    source_words,
    target_words,
    to_pharaoh,
    word_numbers,
    word_weights,
)
from hourglass.errors import UserError

SOURCE = [f"{SPACE}ein", f"{SPACE}klein", "es", f"{SPACE}Haus"]
TARGET = [f"{SPACE}a", f"{SPACE}hou", "se"]
# Rows: a, hou, se, end. Columns: ein, klein, es, Haus, end.
WEIGHTS = np.array(
    [[0.6, 0.1, 0.1, 0.1, 0.1], [0.1, 0.0, 0.0, 0.5, 0.4], [0.1, 0.2, 0.2, 0.1, 0.4], [0.0, 0.0, 0.0, 0.0, 1.0]]
)


def test_words_by_hand() -> None:
    assert word_numbers(SOURCE) == [0, 1, 1, 2]
    assert word_numbers(["a", "b", SPACE, "c"]) == [0, 0, 1, 1]
    # Spaces alone make no word, and a run of unknown words is one piece that belongs to its first.
    assert word_numbers([SPACE, SPACE, f"{SPACE}Haus"]) == [0, 0, 0]
    assert word_numbers([f"{SPACE}ein", f"{SPACE}foo{SPACE}bar", f"{SPACE}Haus"]) == [0, 1, 3]
    words = word_weights(WEIGHTS, word_numbers(SOURCE), word_numbers(TARGET))
    assert words == pytest.approx(np.array([[0.6, 0.2, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]]))
    assert words.sum(1) == pytest.approx(np.ones(2))
    assert links(words) == [(0, 0)]  # The second word looks at the end more than at any word.
    assert to_pharaoh(np.array([[0.1, 0.6, 0.3], [0.8, 0.1, 0.1]])) == "1-0 0-1"


LINES = ["the small house", "a house", "the house is small", "small is the house"]


@pytest.mark.parametrize("kind", ["word", "bpe", "char"])
@pytest.mark.parametrize("text", ["the small house", "the unknown small", "zz yy house", "the", "x"])
def test_words_are_those_of_the_text(kind: str, text: str, tmp_path: Path) -> None:
    """On the source side those of the text, on the target side those of what is written, unknown ones too."""
    settings = TokenizerSettings(
        model=kind,  # type: ignore[arg-type]
        vocabulary_size={"word": 9, "bpe": 24, "char": 24}[kind],
        joint=True,
        character_coverage=1.0,
        byte_fallback=False,
        normalization="identity",
        lines=100,
    )
    train = datasets.Dataset.from_dict({"source": LINES * 5, "target": LINES * 5})
    vocabularies = train_vocabularies(settings, train, "0" * 64, tmp_path)
    numbers = source_words(vocabularies, text)
    (ids,) = vocabularies.source.encode([text])
    assert len(numbers) == len(ids)
    words = text.split()
    last = numbers[-1] if kind != "word" else max(numbers)
    assert last <= len(words) - 1
    if UNK not in ids:
        assert numbers[-1] == len(words) - 1
    written = vocabularies.target.decode([ids])[0].split()
    assert max(target_words(vocabularies, ids)) == len(written) - 1


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


def test_a_long_source_is_drawn_in_parts_that_fit() -> None:
    words = np.full((2, 31), 1 / 31)
    picture = draw_alignment(words, [f"w{i}" for i in range(30)], ["one", "two"], 40)
    assert picture.count("one") == 3
    assert max(map(len, picture.splitlines())) <= 40


@pytest.mark.parametrize("count", [1, 2])
def test_weights_are_those_of_each_pair_alone(count: int) -> None:
    models = [tiny_model("bahdanau", spread=0.4 + 0.2 * number) for number in range(count)]
    sources, targets = [[5, 6, 7], [8], [9, 5]], [[6, 5], [7, 8, 9, 5], []]
    for one, source, target in zip(read_weights(models, sources, targets, 8), sources, targets, strict=True):
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
        assert one == pytest.approx(np.mean(alone, 0), abs=1e-9)


def test_without_weights_it_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"output=json: attention=none has no weights to align by: set output=text"):
        check_weights([tiny_model(), tiny_model("none")], "output=json", "set output=text")
