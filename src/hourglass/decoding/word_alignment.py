"""Which source word each word of a translation comes from, by a model's attention: as links, as numbers, as a picture.

Attention is over pieces; words are what white space divides. The weight of a source word is the sum over its pieces,
and that of a target word the mean over its own.

Shapes: T target pieces, S source pieces (both with end-of-sentence last), V target words, W source words.
"""

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hourglass.data.batches import in_order
from hourglass.data.encoded import pad
from hourglass.data.pieces import BOS, EOS
from hourglass.data.tokenizer import Vocabularies
from hourglass.errors import UserError
from hourglass.models.seq2seq import Seq2Seq

SPACE = "\u2581"  # SentencePiece's mark of a space


# Characters of a word that are drawn.
LONGEST = 20


SHADES = " \u00b7\u2591\u2592\u2593\u2588"


def check_weights(models: Sequence[Seq2Seq], option: str, remedy: str) -> None:
    """See that all models have attention weights.

    Raises:
        UserError: one has none; the message begins with `option` and says `remedy`.
    """
    for model in models:
        if not model.decoder.attention.has_weights:
            raise UserError(
                f"{option}: attention={model.decoder.attention.name} has no weights to align by: {remedy}, or take a "
                "run with an attention that has some"
            )


@torch.inference_mode()
def read_weights(
    models: Sequence[Seq2Seq],
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    batch_tokens: int = 4000,
) -> list[np.ndarray]:
    """Return the weights [T, S] of each pair as the models read the target; of several models the mean.

    Args:
        models: with attention weights.
        sources: ids, without end-of-sentence.
        targets: ids, likewise.
        batch_tokens: padded tokens of a batch.
    """
    source_ids, target_ids = [[*ids, EOS] for ids in sources], [[BOS, *ids] for ids in targets]
    lengths = [np.array([len(ids) for ids in side]) for side in (source_ids, target_ids)]
    found: list[np.ndarray] = [np.empty((0, 0))] * len(source_ids)
    for rows in in_order(lengths[0], lengths[1], batch_tokens) if source_ids else []:
        source, target = pad([source_ids[i] for i in rows]), pad([target_ids[i] for i in rows])
        total = np.zeros((len(rows), target.shape[1], source.shape[1]))
        for model in models:
            device = next(model.parameters()).device
            memory = model.encode(source.to(device), torch.from_numpy(lengths[0][rows]).to(device))
            _, weights = model.decoder(model.embedding(target.to(device)), memory)
            assert weights is not None
            total += weights.double().cpu().numpy() / len(models)
        for number, row in enumerate(rows):
            found[row] = total[number, : lengths[1][row], : lengths[0][row]]
    return found


def source_words(vocabularies: Vocabularies, text: str) -> list[int]:
    """Return which word of a clean text, from 0, each of its pieces belongs to; an unknown run to its first word."""
    return word_numbers(vocabularies.source.surfaces(text))


def target_words(vocabularies: Vocabularies, ids: Sequence[int]) -> list[int]:
    """Return which word of the text that these ids are written as each of them belongs to."""
    return word_numbers(vocabularies.target.written(ids))


def word_numbers(surfaces: Sequence[str]) -> list[int]:
    """Return which word, from 0, each surface belongs to: words begin where spaces do, and spaces alone are none.

    Args:
        surfaces: the text of each piece, a space written as SentencePiece writes it.
    """
    numbers, word, begun = [], 0, False  # `begun`: the word has a character.
    for surface in surfaces:
        first = None
        for character in surface:
            if character == SPACE:
                word, begun = word + begun, False
            else:
                begun = True
                first = word if first is None else first
        numbers.append(word if first is None else first)
    return numbers


def word_weights(weights: np.ndarray, source: Sequence[int], target: Sequence[int]) -> np.ndarray:
    """Return the weights [V, W + 1] of words; the last column is the source's end-of-sentence.

    Args:
        weights: [T, S] of pieces.
        source: the word of each of S - 1 pieces, without end-of-sentence.
        target: the word of each of T - 1 pieces, likewise.
    """
    columns = np.zeros((weights.shape[1], max(source, default=-1) + 2))
    columns[np.arange(len(source)), source] = 1
    columns[-1, -1] = 1
    rows = np.zeros((max(target, default=-1) + 1, weights.shape[0]))
    rows[target, np.arange(len(target))] = 1
    rows /= np.maximum(rows.sum(1, keepdims=True), 1)
    words: np.ndarray = rows @ weights @ columns
    return words


def links(words: np.ndarray) -> list[tuple[int, int]]:
    """Return (source word, target word) for each target word, by its largest weight; none where that is the end.

    Args:
        words: [V, W + 1] of `word_weights`.
    """
    return [(int(at), row) for row, at in enumerate(words.argmax(1)) if at < words.shape[1] - 1] if words.size else []


def to_pharaoh(words: np.ndarray) -> str:
    """Return links as i-j, source and target word from 0, as aligners of words write them."""
    return " ".join(f"{source}-{target}" for source, target in links(words))


def to_json(
    vocabularies: Vocabularies, source: str, text: str, target_ids: Sequence[int], weights: np.ndarray, **more: Any
) -> str:
    """Return one translation with its weights over pieces, end-of-sentence the last of each side, in a line of JSON."""
    words = word_weights(weights, source_words(vocabularies, source), target_words(vocabularies, target_ids))
    (source_ids,) = vocabularies.source.encode([source])
    return json.dumps(
        {
            "source": source,
            "translation": text,
            **more,
            "alignment": links(words),
            "source_pieces": vocabularies.source.pieces([*source_ids, EOS]),
            "target_pieces": vocabularies.target.pieces([*target_ids, EOS]),
            "weights": weights.round(4).tolist(),
        },
        ensure_ascii=False,
    )


def draw(words: np.ndarray, source: Sequence[str], target: Sequence[str], width: int) -> str:
    """Return the weights as lines of text: a row for each target word, a column for each source word, shaded.

    Args:
        words: [V, W + 1] of `word_weights`.
        source: W words.
        target: V words.
        width: columns of the terminal; a longer source is drawn in several parts.
    """
    source, target = (list(map(_printable, side)) for side in ([*source, "(end)"], target))
    margin = max(map(_columns, target), default=0)
    room = max(1, (width - margin - 1) // 3)
    parts = []
    for first in range(0, len(source), room):
        some = source[first : first + room]
        tall = max(map(len, some))
        lines = []
        for row in range(tall):
            heads = ((" " * (tall - len(word)) + word)[row] for word in some)
            lines.append(" " * (margin + 1) + " ".join(head + " " * (2 - _columns(head)) for head in heads))
        for word, weights in zip(target, words[:, first : first + room], strict=True):
            cells = [SHADES[min(int(weight * len(SHADES)), len(SHADES) - 1)] for weight in weights]
            lines.append(f"{' ' * (margin - _columns(word))}{word} {'  '.join(cells)}")
        parts.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(parts)


def _printable(word: str) -> str:
    """Return a word without what would move the cursor or colour the terminal, and no longer than a head may be."""
    shown = "".join(c for c in unicodedata.normalize("NFC", word) if unicodedata.category(c)[0] not in "CM")
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}\u2026"


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
