"""Which source word each word of a translation comes from, by a model's attention: as links, as numbers, as a picture.

Attention is over pieces; words are what white space divides. The weight of a source word is the sum over its pieces,
and that of a target word the mean over its own.

Shapes: T target pieces, S source pieces (both with end-of-sentence last), V target words, W source words.
"""

import json
from collections.abc import Sequence

import numpy as np
import torch

from hourglass.data import in_order, pad
from hourglass.errors import UserError
from hourglass.model import Seq2Seq
from hourglass.tokenizer import BOS, EOS, Vocabularies

SPACE = "\u2581"  # SentencePiece's mark of a space
SHADES = " \u00b7\u2591\u2592\u2593\u2588"


def check_weights(models: Sequence[Seq2Seq], option: str) -> None:
    """See that all models have attention weights.

    Raises:
        UserError: one has none; the message begins with `option`.
    """
    for model in models:
        if not model.decoder.attention.has_weights:
            raise UserError(
                f"{option}: attention={model.decoder.attention.name} has no weights to align by: set output=text, or "
                "name a run with an attention that has some"
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


def word_numbers(pieces: Sequence[str]) -> list[int]:
    """Return which word, from 0, each piece belongs to; a word begins where a space does."""
    numbers, word = [], -1
    for piece in pieces:
        word += piece.startswith(SPACE) or word < 0
        numbers.append(word)
    return numbers


def word_weights(weights: np.ndarray, source_pieces: Sequence[str], target_pieces: Sequence[str]) -> np.ndarray:
    """Return the weights [V, W + 1] of words; the last column is the source's end-of-sentence.

    Args:
        weights: [T, S] of pieces.
        source_pieces: S - 1, without end-of-sentence.
        target_pieces: T - 1, likewise.
    """
    source, target = word_numbers(source_pieces), word_numbers(target_pieces)
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
    vocabularies: Vocabularies,
    source: str,
    *,
    source_ids: Sequence[int],
    text: str,
    target_ids: Sequence[int],
    score: float,
    weights: np.ndarray,
) -> str:
    """Return one translation with its weights over pieces, end-of-sentence the last of each side, in a line of JSON."""
    pieces = [vocabularies.source.pieces([*source_ids, EOS]), vocabularies.target.pieces([*target_ids, EOS])]
    words = word_weights(weights, pieces[0][:-1], pieces[1][:-1])
    return json.dumps(
        {
            "source": source,
            "translation": text,
            "score": round(score, 6),
            "alignment": links(words),
            "source_pieces": pieces[0],
            "target_pieces": pieces[1],
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
    heads, margin = [*source, "(end)"], max(map(len, target), default=0)
    room = max(1, (width - margin - 1) // 2)
    parts = []
    for first in range(0, len(heads), room):
        some = heads[first : first + room]
        tall = max(map(len, some))
        lines = [" " * (margin + 1) + " ".join(head.rjust(tall)[row] for head in some) for row in range(tall)]
        for word, weights in zip(target, words[:, first : first + room], strict=True):
            cells = [SHADES[min(int(weight * len(SHADES)), len(SHADES) - 1)] for weight in weights]
            lines.append(f"{word.rjust(margin)} {' '.join(cells)}")
        parts.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(parts)
