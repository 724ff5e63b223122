"""Alignment: the source word that a model attends to most for each reference word, compared with the true alignment.

On copy and reverse the true alignment is known: target word j is source word j, or the j-th from the end.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hourglass.config.options import choose
from hourglass.decoding.word_alignment import read_weights
from hourglass.errors import UserError
from hourglass.models.attention import ATTENTIONS
from hourglass.models.checkpoint import Trained

# By corpus: the true source word of target word j of n, both counted from 0.
TRUE: Mapping[str, Callable[[int, int], int]] = {"copy": lambda j, n: j, "reverse": lambda j, n: n - 1 - j}


@dataclass(frozen=True)
class AlignmentScore:
    """Alignment error rates of a model on one split.

    Attributes:
        links: number of links, one for each target word; end-of-sentence has none.
        error_rate: 0 to 1.
        error_rate_near: the same if a link to a neighbour of the true word counts as correct.
    """

    links: int
    error_rate: float
    error_rate_near: float


def check_aligns(attention: str, pieces: str) -> None:
    """Check that a model aligns words.

    Args:
        attention: attention.name of its settings.
        pieces: tokenizer.model of its settings.

    Raises:
        UserError: the attention has no weights or is of a plugin that is not loaded, or the pieces are not words.
    """
    if not choose(ATTENTIONS, attention, "attention.name").has_weights:
        raise UserError(f"attention={attention} has no weights to align by: name runs of an attention that has them")
    if pieces != "word":
        raise UserError(
            f"tokenizer.model={pieces}: words are aligned, and these pieces are not words: name runs with "
            "tokenizer=word"
        )


def align(
    trained: Trained, sources: Sequence[str], targets: Sequence[str], batch_tokens: int = 4000
) -> list[list[int]]:
    """Return the source position of the largest attention weight for each target word, under teacher forcing.

    Luong et al. 2015, section 5.4, force-decode the reference in the same way.

    Args:
        trained: a model whose pieces are words.
        sources: sentences.
        targets: their references.
        batch_tokens: padded tokens of a batch.

    Returns:
        a list of positions for each pair, counted from 0; the number of source words stands for end-of-sentence.

    Raises:
        UserError: the model has no attention weights, or its pieces are not words.
    """
    model, vocabularies = trained.model, trained.vocabularies
    check_aligns(model.decoder.attention.name, trained.config["tokenizer"]["model"])
    sides = vocabularies.source.encode(list(sources)), vocabularies.target.encode(list(targets))
    return [weights.argmax(-1).tolist()[:-1] for weights in read_weights([model], *sides, batch_tokens)]


def score_alignment(links: Sequence[Sequence[int]], true: Callable[[int, int], int]) -> AlignmentScore:
    """Return the alignment error rate 1 - 2 |A and S| / (|A| + |S|) (Och and Ney 2003, equation 13, all links sure).

    With one link per word on both sides this is the share of words with a wrong link.

    Args:
        links: of `align`.
        true: a value of `TRUE`.
    """
    distances = [abs(at - true(j, len(row))) for row in links for j, at in enumerate(row)]
    correct, near = sum(d == 0 for d in distances), sum(d <= 1 for d in distances)
    count = len(distances)
    return AlignmentScore(count, 1 - 2 * correct / (count + count), 1 - 2 * near / (count + count))
