"""The plain search that `search` is held against: whole prefixes read anew at every step, one sentence at a time.

It knows nothing of decoder states, row reordering or batches. Many times slower: for tests and for bench.py exact.
Shapes: N prefixes, S source length, T prefix length, V vocabulary.
"""

import math

import torch
from torch import Tensor

from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.decoding.search import Hypothesis
from hourglass.models.seq2seq import Seq2Seq


@torch.no_grad()
def after(model: Seq2Seq, source: Tensor, prefixes: list[list[int]]) -> list[list[float]]:
    """Return the log-probability of every next piece after each prefix, by teacher forcing.

    Args:
        model: in evaluation mode.
        source: ids [S], padded or not.
        prefixes: N, all of one length.

    Returns:
        N lists of V.
    """
    source_NS = source[source != PAD].expand(len(prefixes), -1)
    lengths = torch.full((len(prefixes),), source_NS.shape[1])
    logits_NTV = model(source_NS, lengths, torch.tensor([[BOS, *prefix] for prefix in prefixes]))
    found: list[list[float]] = logits_NTV[:, -1].log_softmax(-1).tolist()
    return found


def penalised(log_probability: float, length: int, alpha: float) -> float:
    """Return the log-probability over the length penalty of Wu et al. 2016, equation 14."""
    return log_probability / (((5 + length) ** alpha) / ((5 + 1) ** alpha))


def plain_beam(model: Seq2Seq, source: Tensor, limit: int, beam: int, alpha: float) -> Hypothesis:
    """Return the best translation of a sentence by the search that `hourglass.search.n_best` describes.

    Args:
        model: in evaluation mode.
        source: ids [S].
        limit: pieces, end-of-sentence included.
        beam: K; 1 is greedy search.
        alpha: length penalty.
    """
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[Hypothesis] = []
    for t in range(1, limit + 1):
        rows = after(model, source, [tokens for _, tokens in live])
        continued = [
            (total + value, [*tokens, piece])
            for (total, tokens), row in zip(live, rows, strict=True)
            for piece, value in enumerate(row)
            if piece not in (PAD, BOS)
        ]
        continued.sort(key=lambda candidate: -candidate[0])
        for total, tokens in continued[:beam]:
            if tokens[-1] == EOS:
                finished.append(Hypothesis(tokens[:-1], total, penalised(total, t, alpha), True))
        live = [candidate for candidate in continued if candidate[1][-1] != EOS][:beam]
        best = max((hypothesis.score for hypothesis in finished), default=-math.inf)
        full = len(finished) >= beam and best >= penalised(live[0][0], t, alpha)
        if full or best >= penalised(live[0][0], limit, alpha):
            break
    if finished:
        return max(finished, key=lambda hypothesis: hypothesis.score)
    total, tokens = live[0]
    return Hypothesis(tokens, total, penalised(total, limit, alpha), False)
