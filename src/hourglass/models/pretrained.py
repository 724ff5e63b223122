"""Pretrained embeddings: vectors of words, from a text file of word2vec or GloVe, as the first weights of an embedding.

A line holds a word and its numbers, divided by spaces; word2vec's first line holds how many lines and numbers follow.

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
    """Return the files that the settings name: by group (encoder, decoder), the path and the width E wanted."""
    return {
        group: (Path(path).expanduser(), int(config[group]["embedding_size"]))
        for group in ("encoder", "decoder")
        if (path := config[group].get("embedding_file")) is not None
    }


def check_files(config: Mapping[str, Any]) -> None:
    """See, by their first vectors, that the files that the settings name have the width of the embeddings.

    Raises:
        UserError: one cannot be read, is no such file or has another width.
    """
    for group, (file, width) in embedding_files(config).items():
        next(_vectors(file, width, group, wanted=None), None)


def fill_embeddings(model: Seq2Seq, config: Mapping[str, Any], vocabularies: Vocabularies) -> None:
    """Copy the vectors that the settings name into the model's embeddings, and say how many pieces had one.

    A piece is looked up as it is written, and without its mark of a space; pieces that the file lacks keep the weights
    that they have.

    Raises:
        UserError: a file cannot be read, or a line is malformed.
    """
    for group, (file, width) in embedding_files(config).items():
        embedding: Any = model.encoder.embedding if group == "encoder" else model.embedding
        tokenizer = vocabularies.source if group == "encoder" else vocabularies.target
        found = fill(embedding, tokenizer, file, width, group)
        pieces = tokenizer.size - FIXED_PIECES
        share = 100 * found / pieces
        log.info("%s.embedding_file: %s of %s pieces found (%.1f %%)", group, f"{found:,}", f"{pieces:,}", share)
        if not found:
            raise UserError(
                f"{group}.embedding_file={file}: none of the {pieces:,} pieces of the vocabulary is in it: "
                "name a file of this language, or try tokenizer=word"
            )


@torch.no_grad()
def fill(embedding: nn.Embedding, tokenizer: Tokenizer, file: Path, width: int, group: str) -> int:
    """Copy vectors into the rows [V, E] of their pieces; return how many rows have one. The first of a word counts."""
    rows: dict[str, list[int]] = {}
    for index, piece in enumerate(tokenizer.pieces(range(tokenizer.size))):
        if index >= FIXED_PIECES:
            for written in {piece, piece.removeprefix(_SPACE)} - {""}:
                rows.setdefault(written, []).append(index)
    met: set[int] = set()
    for word, vector in _vectors(file, width, group, wanted=rows):
        for row in rows[word]:
            if row not in met:
                embedding.weight[row] = torch.from_numpy(vector)
                met.add(row)
    return len(met)


def _vectors(file: Path, width: int, group: str, wanted: Collection[str] | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the wanted words of a file (None: all) with their vectors [E]."""
    first = True
    for number, line in enumerate(read_lines(file), 1):
        if first:
            fields = line.rstrip().split(" ")
            if number == 1 and len(fields) == 2 and all(field.isdecimal() for field in fields):  # word2vec's header
                _check_width(file, number, int(fields[1]), width, group)
                continue
            _check_width(file, number, min(_count_numbers(fields), len(fields) - 1), width, group)
            first = False
        word, *numbers = line.rstrip().rsplit(" ", width)  # A word of GloVe's may hold spaces.
        if wanted is not None and word not in wanted and len(numbers) == width:
            continue
        vector = _numbers(numbers)
        if len(vector) != width or not np.isfinite(vector).all():
            raise UserError(f"{file}:{number}: not a word and {width} numbers: mend the line, or leave it out")
        yield word, vector


def _numbers(written: list[str]) -> np.ndarray:
    try:
        return np.array(written, dtype=np.float32)
    except ValueError:
        return np.empty(0, dtype=np.float32)


def _count_numbers(fields: list[str]) -> int:
    """Return how many fields at the end of a line are numbers."""
    return sum(1 for _ in takewhile(lambda field: len(_numbers([field])) == 1, reversed(fields)))


def _check_width(file: Path, number: int, found: int, width: int, group: str) -> None:
    if found == 0:
        raise UserError(f"{file}:{number}: not a word and its numbers with single spaces between: mend the file")
    if found != width:
        raise UserError(
            f"{file}:{number}: vectors of width {found}, and {group}.embedding_size={width}: set "
            f"{group}.embedding_size={found}, or name another file"
        )
