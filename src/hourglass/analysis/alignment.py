"""Alignment: which source word a model looks at for each word of a reference, held against what is known to be true.

On copy and reverse the true alignment is known: target word j is source word j, or the j-th from the end.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hourglass.decoding.word_alignment import read_weights
from hourglass.errors import UserError
from hourglass.models.attention import ATTENTIONS
from hourglass.models.checkpoint import Trained

# Corpus, and the true source word of target word j of n, both from 0.
TRUE: Mapping[str, Callable[[int, int], int]] = {"copy": lambda j, n: j, "reverse": lambda j, n: n - 1 - j}


@dataclass(frozen=True)
class AlignmentScore:
    """How a model aligns a split.

    Attributes:
        links: one for each target word; end-of-sentence has none.
        error_rate: of alignment, 0 to 1.
        error_rate_near: the same, were a link to a neighbour of the true word right.
    """

    links: int
    error_rate: float
    error_rate_near: float


def check_aligns(attention: str, pieces: str) -> None:
    """See that a model of this attention and these pieces (attention.name, tokenizer.model) aligns words.

    Raises:
        UserError: it does not.
    """
    if not ATTENTIONS[attention].has_weights:
        raise UserError(f"attention={attention} has no weights to align by: name runs of an attention that has")
    if pieces != "word":
        raise UserError(
            f"tokenizer.model={pieces}: words are aligned, and these pieces are none: name runs with tokenizer=word"
        )


def align(
    trained: Trained, sources: Sequence[str], targets: Sequence[str], batch_tokens: int = 4000
) -> list[list[int]]:
    """Return for each target word the source position of the largest weight, as the model reads the reference.

    (Luong et al. 2015, section 5.4, force-decode the reference likewise.)

    Args:
        trained: whose pieces are words.
        sources: sentences.
        targets: their references.
        batch_tokens: padded tokens of a batch.

    Returns:
        one list for each pair, of positions from 0; the number of source words is end-of-sentence.

    Raises:
        UserError: the model has no attention weights, or its pieces are no words.
    """
    model, vocabularies = trained.model, trained.vocabularies
    check_aligns(model.decoder.attention.name, trained.config["tokenizer"]["model"])
    sides = vocabularies.source.encode(list(sources)), vocabularies.target.encode(list(targets))
    return [weights.argmax(-1).tolist()[:-1] for weights in read_weights([model], *sides, batch_tokens)]


def score_alignment(found: Sequence[Sequence[int]], true: Callable[[int, int], int]) -> AlignmentScore:
    """Return 1 - 2 |A and S| / (|A| + |S|) (Och and Ney 2003, equation 13, all links sure) over a split.

    With one link a word on both sides it is the share of words that are aligned wrong.
    """
    distances = [abs(at - true(j, len(row))) for row in found for j, at in enumerate(row)]
    right, near = sum(d == 0 for d in distances), sum(d <= 1 for d in distances)
    links = len(distances)
    return AlignmentScore(links, 1 - 2 * right / (links + links), 1 - 2 * near / (links + links))
