"""Word alignment by attention weights: which source word each word of a translation comes from.

Attention weights are of pieces; what a word is depends on the language (corpora/languages.py). The weight of a source
word is the sum over its pieces, a piece of several words giving each an equal part; the weights of a target word are
the mean over its pieces.

Shapes: T target pieces, S source pieces (both with end-of-sentence last), V target words, W source words.
"""

import bisect
import itertools
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hourglass.corpora.languages import word_spans
from hourglass.data.batches import in_order
from hourglass.data.encoded import pad, pad_sources
from hourglass.data.pieces import BOS, EOS
from hourglass.data.sources import Source, positions_of
from hourglass.data.tokenizer import Vocabularies
from hourglass.decoding.translate import ScoredTranslation
from hourglass.errors import UserError
from hourglass.models.seq2seq import Seq2Seq
from hourglass.system.markup import visible

# Characters of a word in a drawing, at most.
LONGEST = 20
SHADES = " \u00b7\u2591\u2592\u2593\u2588"


def check_weights(models: Sequence[Seq2Seq], option: str, remedy: str) -> None:
    """Check that all models have attention weights.

    Raises:
        UserError: a model has none; the message begins with `option` and contains `remedy`.
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
    sources: Sequence[Source],
    targets: Sequence[Sequence[int]],
    batch_tokens: int = 4000,
) -> list[np.ndarray]:
    """Return the attention weights [T, S] of each pair, while the models read the target (teacher forcing).

    Args:
        models: with attention weights; of several models the mean.
        sources: ids, without end-of-sentence, or features.
        targets: ids, without end-of-sentence.
        batch_tokens: padded tokens of a batch, at most.
    """
    target_ids = [[BOS, *ids] for ids in targets]
    lengths = np.array(list(map(positions_of, sources))), np.array(list(map(len, target_ids)))
    matrices: list[np.ndarray] = [np.empty((0, 0))] * len(sources)
    for rows in in_order(lengths[0], lengths[1], batch_tokens) if len(sources) else []:
        source, target = pad_sources([sources[i] for i in rows]), pad([target_ids[i] for i in rows])
        total = np.zeros((len(rows), target.shape[1], source.shape[1]))
        for model in models:
            device = next(model.parameters()).device
            memory = model.encode(source.to(device), torch.from_numpy(lengths[0][rows]).to(device))
            _, weights = model.decoder(model.embedding(target.to(device)), memory)
            assert weights is not None
            total += weights.double().cpu().numpy() / len(models)
        for number, row in enumerate(rows):
            matrices[row] = total[number, : lengths[1][row], : lengths[0][row]]
    return matrices


def source_words(vocabularies: Vocabularies, text: str, language: str) -> list[range]:
    """Return the numbers of the words, from 0, that each piece of a clean text belongs to.

    Args:
        vocabularies: of the model.
        text: a source.
        language: its code.
    """
    return words_of_pieces(text, vocabularies.source.offsets(text), language)


def target_words(
    vocabularies: Vocabularies, ids: Sequence[int], language: str, replaced: Mapping[int, str] | None = None
) -> list[range]:
    """Return the numbers of the words, from 0, that each id belongs to in the text of all ids.

    Args:
        vocabularies: of the model.
        ids: of a translation.
        language: the code of the target language.
        replaced: of the translation, see `ScoredTranslation`.
    """
    written = [(replaced or {}).get(place, text) for place, text in enumerate(vocabularies.target.written(ids))]
    ends = list(itertools.accumulate(map(len, written)))
    # The text itself has single spaces and none at its ends, but the same words.
    return words_of_pieces("".join(written).replace("\u2581", " "), list(zip([0, *ends], ends, strict=False)), language)


def align_words(
    vocabularies: Vocabularies,
    languages: tuple[str, str],
    source: str,
    translation: ScoredTranslation,
    weights: np.ndarray,
) -> np.ndarray:
    """Return the weights [V, W + 1] of words of a translation; the last column is end-of-sentence of the source.

    Args:
        vocabularies: of the model.
        languages: the codes of source and target.
        source: the clean text of the source.
        translation: of the source, with its prefix.
        weights: [T, S] of pieces.
    """
    return word_weights(
        weights,
        source_words(vocabularies, source, languages[0]),
        target_words(vocabularies, translation.tokens, languages[1], translation.replaced),
    )


def words_of_pieces(text: str, pieces: Sequence[tuple[int, int]], language: str) -> list[range]:
    """Return the numbers of the words, from 0, that each piece of a text belongs to.

    A piece without a character of a word belongs to the word that follows, or at the end to the last word. If there is
    no word at all, it belongs to none.

    Args:
        text: a text.
        pieces: begin and end of each piece, in characters.
        language: the code of the text's language.
    """
    spans = word_spans(text, language)
    begins, ends = [begin for begin, _ in spans], [end for _, end in spans]
    result = []
    for begin, end in pieces:
        first = min(bisect.bisect_right(ends, begin), max(len(spans) - 1, 0))
        result.append(range(first, max(bisect.bisect_left(begins, end), min(first + 1, len(spans)))))
    return result


def word_weights(weights: np.ndarray, source: Sequence[range], target: Sequence[range]) -> np.ndarray:
    """Return the weights [V, W + 1] of words; the last column is end-of-sentence of the source.

    Args:
        weights: [T, S] of pieces.
        source: the words of each of S - 1 pieces, without end-of-sentence.
        target: the words of each of T - 1 pieces, without end-of-sentence.
    """
    # A piece of several words is shared between them, [T, W + 1]; a word of several target pieces has their mean.
    pieces, words, number = _pairs(source)
    counts = np.bincount(pieces, minlength=len(source))
    columns = np.zeros((weights.shape[0], number + 1))
    np.add.at(columns.T, words, (weights[:, pieces] / counts[pieces]).T)
    columns[:, -1] = weights[:, -1]
    pieces, words, number = _pairs(target)
    rows = np.zeros((number, columns.shape[1]))
    np.add.at(rows, words, columns[pieces])
    return rows / np.maximum(np.bincount(words, minlength=number), 1)[:, None]


def _pairs(pieces: Sequence[range]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the piece [N] and the word [N] of each pair of a piece and a word of it, and the number of words."""
    numbers = np.repeat(np.arange(len(pieces)), [len(own) for own in pieces])
    words = np.fromiter(itertools.chain.from_iterable(pieces), dtype=np.int64)
    return numbers, words, max((own.stop for own in pieces), default=0)


def weight_decimals(sources: int) -> int:
    """Return how many decimals attention weights over S sources need to sum to 1 within 0.0005 when they are rounded.

    A fixed number is not enough: weights shrink as sentences grow.
    """
    return 3 + math.ceil(math.log10(max(10, sources)))


def links(words: np.ndarray) -> list[tuple[int, int]]:
    """Return (source word, target word) by the largest weight of each target word, unless that is end-of-sentence.

    Args:
        words: [V, W + 1] of `word_weights`.
    """
    return [(int(at), row) for row, at in enumerate(words.argmax(1)) if at < words.shape[1] - 1] if words.size else []


def to_pharaoh(words: np.ndarray) -> str:
    """Return the links in Pharaoh's format: i-j, source and target word from 0."""
    return " ".join(f"{source}-{target}" for source, target in links(words))


def to_json(
    vocabularies: Vocabularies,
    languages: tuple[str, str],
    source: str,
    translation: ScoredTranslation,
    weights: np.ndarray,
    **more: Any,
) -> str:
    """Return a translation with its weights as one line of JSON.

    Args:
        vocabularies: of the model.
        languages: the codes of source and target.
        source: the clean text of the source.
        translation: of the source.
        weights: [T, S] of pieces.
        more: further fields.
    """
    words = align_words(vocabularies, languages, source, translation, weights)
    (source_ids,) = vocabularies.source.encode([source])
    return json.dumps(
        {
            "source": source,
            "translation": translation.text,
            **more,
            "score": round(translation.score, 6),
            "alignment": links(words),
            "source_pieces": vocabularies.source.pieces([*source_ids, EOS]),
            "target_pieces": vocabularies.target.pieces([*translation.tokens, EOS]),
            "weights": weights.round(weight_decimals(weights.shape[1])).tolist(),
        },
        ensure_ascii=False,
    )


def caption_to_json(vocabularies: Vocabularies, caption: ScoredTranslation, weights: np.ndarray, **more: Any) -> str:
    """Return what was written about features, with its weights, as one line of JSON.

    Args:
        vocabularies: of the model.
        caption: of a picture.
        weights: [T, S] of regions.
        more: further fields.
    """
    return json.dumps(
        {
            "translation": caption.text,
            **more,
            "score": round(caption.score, 6),
            "target_pieces": vocabularies.target.pieces([*caption.tokens, EOS]),
            "weights": weights.round(weight_decimals(weights.shape[1])).tolist(),
        },
        ensure_ascii=False,
    )


def draw_alignment(words: np.ndarray, source: Sequence[str], target: Sequence[str], width: int) -> str:
    """Draw the weights as shaded text, with a row for each target word and a column for each source word.

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
        shown = source[first : first + room]
        height = max(map(len, shown))
        lines = []
        for row in range(height):
            letters = ((" " * (height - len(word)) + word)[row] for word in shown)
            lines.append(" " * (margin + 1) + " ".join(letter + " " * (2 - _columns(letter)) for letter in letters))
        for word, weights in zip(target, words[:, first : first + room], strict=True):
            cells = [SHADES[min(int(weight * len(SHADES)), len(SHADES) - 1)] for weight in weights]
            lines.append(f"{' ' * (margin - _columns(word))}{word} {'  '.join(cells)}")
        parts.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(parts)


def _printable(word: str) -> str:
    """Return at most LONGEST characters of a word; those that would move the cursor or set colours are signs."""
    text = visible(unicodedata.normalize("NFC", word))
    shown = "".join(character for character in text if unicodedata.category(character)[0] not in "CM")
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}\u2026"


def _columns(text: str) -> int:
    """Return the number of terminal columns of a text."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
