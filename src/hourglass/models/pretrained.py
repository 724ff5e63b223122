"""Pretrained embeddings: the vectors in a text file of word2vec or GloVe as the first weights of an embedding.

A line has a word and its numbers, with spaces between. The first line of word2vec has the number of lines and the
width of the vectors.

Shapes: V vocabulary, E embedding.
"""

import logging
from collections.abc import Collection, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hourglass.corpora.lines import read_lines
from hourglass.data.pieces import FIXED_PIECES
from hourglass.data.tokenizer import Tokenizer, Vocabularies
from hourglass.errors import UserError
from hourglass.models.seq2seq import Seq2Seq

log = logging.getLogger(__name__)


_SPACE = "\u2581"  # SentencePiece's mark of a space before a piece


def embedding_files(config: Mapping[str, Any]) -> dict[str, tuple[Path, int]]:
    """Return the path and the width E of the embedding file of each group (encoder, decoder) that has one."""
    return {
        group: (Path(path).expanduser(), int(config[group]["embedding_size"]))
        for group in ("encoder", "decoder")
        if (path := config[group].get("embedding_file")) is not None
    }


def check_files(config: Mapping[str, Any]) -> None:
    """Check that embedding files have vectors of the right width, by the first vector of each.

    Raises:
        UserError: a file cannot be read, has another format or another width.
    """
    for group, (file, width) in embedding_files(config).items():
        next(_vectors(file, width, group, words=None), None)


def fill_embeddings(model: Seq2Seq, config: Mapping[str, Any], vocabularies: Vocabularies) -> None:
    """Copy the vectors of embedding files into the model, and log how many pieces have one.

    A piece is looked up as it is written, and without its mark of a space. A piece that is not in the file keeps its
    weights.

    Raises:
        UserError: a file cannot be read, has a malformed line, or has none of the pieces.
    """
    for group, (file, width) in embedding_files(config).items():
        embedding: Any = model.encoder.embedding if group == "encoder" else model.embedding
        tokenizer = vocabularies.source if group == "encoder" else vocabularies.target
        filled = fill_rows(embedding, tokenizer, file, width, group)
        pieces = tokenizer.size - FIXED_PIECES
        share = 100 * filled / pieces
        log.info("%s.embedding_file: %s of %s pieces found (%.1f %%)", group, f"{filled:,}", f"{pieces:,}", share)
        if not filled:
            raise UserError(
                f"{group}.embedding_file={file}: none of the {pieces:,} pieces of the vocabulary is in it: "
                "name a file of this language, or try tokenizer=word"
            )


@torch.no_grad()
def fill_rows(embedding: nn.Embedding, tokenizer: Tokenizer, file: Path, width: int, group: str) -> int:
    """Copy vectors into the rows of their pieces; of two vectors of a word, the first counts.

    Args:
        embedding: [V, E].
        tokenizer: of V pieces.
        file: with vectors.
        width: E.
        group: encoder or decoder, for messages.

    Returns:
        the number of rows that have a vector.
    """
    rows: dict[str, list[int]] = {}
    for index, piece in enumerate(tokenizer.pieces(range(tokenizer.size))):
        if index >= FIXED_PIECES:
            for word in {piece, piece.removeprefix(_SPACE)} - {""}:
                rows.setdefault(word, []).append(index)
    filled: set[int] = set()
    for word, vector in _vectors(file, width, group, words=rows):
        for row in rows[word]:
            if row not in filled:
                embedding.weight[row] = torch.from_numpy(vector)
                filled.add(row)
    return len(filled)


def _vectors(file: Path, width: int, group: str, words: Collection[str] | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield those of `words` (None: all) that a file has, with their vectors [E]."""
    first = True
    for number, line in enumerate(read_lines(file), 1):
        if first:
            fields = line.rstrip().split(" ")
            if number == 1 and len(fields) == 2 and all(field.isdecimal() for field in fields):  # word2vec's header
                _check_width(file, number, int(fields[1]), width, group)
                continue
            _check_width(file, number, min(_count_numbers(fields), len(fields) - 1), width, group)
            first = False
        word, *numbers = line.rstrip().rsplit(" ", width)  # A word of GloVe may have spaces.
        if words is not None and word not in words and len(numbers) == width:
            continue
        vector = _parse_numbers(numbers)
        if len(vector) != width or not np.isfinite(vector).all():
            raise UserError(f"{file}:{number}: not a word and {width} numbers: mend the line, or leave it out")
        yield word, vector


def _parse_numbers(fields: list[str]) -> np.ndarray:
    """Return the fields as numbers, or an empty array if a field is no number."""
    try:
        return np.array(fields, dtype=np.float32)
    except ValueError:
        return np.empty(0, dtype=np.float32)


def _count_numbers(fields: list[str]) -> int:
    """Return how many fields at the end of a line are numbers."""
    return sum(1 for _ in takewhile(lambda field: len(_parse_numbers([field])) == 1, reversed(fields)))


def _check_width(file: Path, number: int, actual: int, width: int, group: str) -> None:
    """Check that line `number` has `width` numbers."""
    if actual == 0:
        raise UserError(f"{file}:{number}: not a word and its numbers with single spaces between: mend the file")
    if actual != width:
        raise UserError(
            f"{file}:{number}: vectors of width {actual}, and {group}.embedding_size={width}: set "
            f"{group}.embedding_size={actual}, or name another file"
        )
