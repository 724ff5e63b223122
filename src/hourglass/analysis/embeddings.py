"""Word embeddings of a trained model: nearest words, sums of words, and a map.

V pieces, E embedding size, N words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hourglass.data.pieces import FIXED_PIECES
from hourglass.data.tokenizer import Tokenizer
from hourglass.errors import UserError
from hourglass.models.checkpoint import Trained

Side = Literal["source", "target"]

# The farthest place of a word in a map, in whole numbers.
PLACES = 500

_SPACE = "▁"  # how SentencePiece spells the space before a word


@dataclass(frozen=True)
class Term:
    """A word of a sum.

    Attributes:
        word: without spaces.
        sign: 1 or -1.
    """

    word: str
    sign: int


@dataclass(frozen=True)
class WordEmbeddings:
    """The embeddings of one side of a model.

    Attributes:
        vectors: [V, E].
        tokenizer: of the V pieces.
        words: ids of the pieces that begin with a space and have letters alone, the most frequent first (SentencePiece
            numbers its pieces in this order): words, and a few beginnings of words.
    """

    vectors: Tensor
    tokenizer: Tokenizer
    words: list[int]

    @classmethod
    def of(cls, trained: Trained, side: Side) -> "WordEmbeddings":
        """Return those of a model.

        Raises:
            UserError: the side has no embedding, or pieces that are not words.
        """
        encoder, vocabularies = trained.model.encoder, trained.vocabularies
        embedding = trained.model.embedding if side == "target" else getattr(encoder, "embedding", None)
        if not isinstance(embedding, nn.Embedding):
            raise UserError(f"side={side}: the encoder of this run ({encoder.name}) embeds no words: set side=target")
        tokenizer = vocabularies.target if side == "target" else vocabularies.source
        labels = tokenizer.pieces(range(tokenizer.size))
        words = [
            index
            for index in range(FIXED_PIECES, tokenizer.size)
            if labels[index].startswith(_SPACE) and labels[index][1:].isalpha()
        ]
        if not words:
            raise UserError(f"side={side}: no piece of this run's vocabulary is a word: name a run with larger pieces")
        return cls(embedding.weight.detach(), tokenizer, words)

    def spell(self, index: int) -> str:
        """Return a word of `words`."""
        return self.tokenizer.pieces([index])[0].removeprefix(_SPACE)

    def pieces_of(self, word: str) -> list[int]:
        """Return the ids of a word's pieces.

        Raises:
            UserError: the vocabulary cannot spell it.
        """
        ids = self.tokenizer.encode([word])[0]
        if not ids or min(ids) < FIXED_PIECES:
            raise UserError(f"near: the vocabulary of this run does not have the word {word!r}")
        return ids

    def nearest(self, terms: Sequence[Term], count: int) -> list[tuple[str, float]]:
        """Return the words nearest to a sum, and the cosine of each.

        Vectors of length 1 are added, as Mikolov et al. 2013 (Linguistic Regularities in Continuous Space Word
        Representations, section 4) and Levy and Goldberg 2014 (equation 1) do, and the words of the sum are no answers.
        The vector of a word of several pieces is the mean of theirs.

        Args:
            terms: one or more.
            count: number of words, at most.

        Raises:
            UserError: the vocabulary cannot spell a word, or the sum is zero.
        """
        asked = [self.pieces_of(term.word) for term in terms]
        vectors = torch.stack([F.normalize(self.vectors[ids].mean(0), dim=0) for ids in asked])  # [terms, E]
        signs = torch.tensor([float(term.sign) for term in terms])
        total = signs @ vectors  # [E]
        if total.norm() < 1e-4:
            raise UserError("near: the words cancel each other, and nothing is near to a vector of zeros")
        cosines = F.normalize(self.vectors[self.words], dim=1) @ F.normalize(total, dim=0)  # [N]
        excluded = {ids[0] for ids in asked if len(ids) == 1}
        order = [place for place in cosines.argsort(descending=True).tolist() if self.words[place] not in excluded]
        return [(self.spell(self.words[place]), float(cosines[place])) for place in order[:count]]

    def plane(self, count: int) -> tuple[list[str], Tensor, float]:
        """Return the most frequent words, their places [N, 2] in a plane, and the share of variance that it shows.

        The plane is that of the first two principal components of their vectors of length 1.

        Raises:
            UserError: there is no such plane of fewer than three words or two numbers.
        """
        words = self.words[:count]
        if len(words) < 3 or self.vectors.shape[1] < 2:
            raise UserError(
                f"map: {len(words)} words with vectors of size {self.vectors.shape[1]} make no plane: it needs three "
                "words (map_words=3 or more) and vectors of two numbers"
            )
        centred = F.normalize(self.vectors[words], dim=1)
        centred = centred - centred.mean(0)
        _, values, axes = torch.linalg.svd(centred, full_matrices=False)
        shown = float((values[:2] ** 2).sum() / (values**2).sum())
        return [self.spell(index) for index in words], centred @ axes[:2].T, shown


@dataclass(frozen=True)
class WordMap:
    """The most frequent words of one side of a model in a plane.

    Attributes:
        side: source, target, or "source and target", which share one embedding.
        words: N, the most frequent first.
        places: N pairs, whole numbers from -PLACES to PLACES.
        shown: the share of the variance of their vectors that the plane shows.
    """

    side: str
    words: list[str]
    places: list[tuple[int, int]]
    shown: float


def word_maps(trained: Trained, count: int) -> list[WordMap]:
    """Return a map of each embedding of a model; none where it embeds no words, as of features or characters.

    Args:
        trained: the model.
        count: words of a map at most.
    """
    own = getattr(trained.model.encoder, "embedding", None)
    shared = isinstance(own, nn.Embedding) and own.weight is trained.model.embedding.weight
    sides: dict[str, Side] = {"source and target": "target"} if shared else {"source": "source", "target": "target"}
    maps = []
    for name, side in sides.items():
        try:
            words, places, shown = WordEmbeddings.of(trained, side).plane(count)
        except UserError:
            continue
        largest = float(places.abs().max()) or 1.0
        whole = (places / largest * PLACES).round().int().tolist()
        maps.append(WordMap(name, words, [(x, y) for x, y in whole], round(shown, 4)))
    return maps


def read_terms(text: str) -> list[Term]:
    """Read a sum of words, such as king - man + woman. A sign has spaces around it, as a hyphen may be in a word.

    Raises:
        UserError: it is no such sum.
    """
    parts = re.split(r"\s+", text.strip())
    words, signs = parts[::2], ["+", *parts[1::2]]
    if len(words) != len(signs) or set(signs) - {"+", "-"} or not all(words) or {"+", "-"} & set(words):
        raise UserError(f'near={text}: not a word, nor words with + or - between them, as in near="king - man + woman"')
    return [Term(word, 1 if sign == "+" else -1) for word, sign in zip(words, signs, strict=True)]
