"""A plain beam search to check `search` against: one sentence at a time, all prefixes read anew at every step.

It uses neither decoder states nor batches of sentences. It is many times slower, and serves tests and `bench.py exact`.
Shapes: N prefixes, S source length, T prefix length, V vocabulary.
"""

import math

import torch
from torch import Tensor

from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.decoding.search import Hypothesis
from hourglass.models.seq2seq import Seq2Seq


@torch.no_grad()
def next_log_probabilities(model: Seq2Seq, source: Tensor, prefixes: list[list[int]]) -> list[list[float]]:
    """Return the log-probability of every next piece after each prefix, by teacher forcing.

    Args:
        model: in evaluation mode.
        source: ids [S], with or without padding.
        prefixes: N prefixes of the same length, without begin-of-sentence.

    Returns:
        N lists of V values.
    """
    source_NS = source[source != PAD].expand(len(prefixes), -1)
    lengths = torch.full((len(prefixes),), source_NS.shape[1])
    logits_NTV = model(source_NS, lengths, torch.tensor([[BOS, *prefix] for prefix in prefixes]))
    log_probabilities: list[list[float]] = logits_NTV[:, -1].log_softmax(-1).tolist()
    return log_probabilities


def penalised_score(log_probability: float, length: int, alpha: float) -> float:
    """Return the log-probability over the length penalty of Wu et al. 2016, equation 14."""
    return log_probability / (((5 + length) ** alpha) / ((5 + 1) ** alpha))


def plain_beam_search(model: Seq2Seq, source: Tensor, limit: int, beam: int, alpha: float) -> Hypothesis:
    """Return the best translation of a sentence, by the search that `hourglass.decoding.search.n_best` describes.

    Args:
        model: in evaluation mode.
        source: ids [S].
        limit: largest number of pieces, end-of-sentence included.
        beam: K; 1 is greedy search.
        alpha: length penalty.
    """
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[Hypothesis] = []
    for t in range(1, limit + 1):
        rows = next_log_probabilities(model, source, [tokens for _, tokens in live])
        candidates = [
            (total + value, [*tokens, piece])
            for (total, tokens), row in zip(live, rows, strict=True)
            for piece, value in enumerate(row)
            if piece not in (PAD, BOS)
        ]
        candidates.sort(key=lambda candidate: -candidate[0])
        for total, tokens in candidates[:beam]:
            if tokens[-1] == EOS:
                finished.append(Hypothesis(tokens[:-1], total, penalised_score(total, t, alpha), True))
        live = [candidate for candidate in candidates if candidate[1][-1] != EOS][:beam]
        best = max((hypothesis.score for hypothesis in finished), default=-math.inf)
        full = len(finished) >= beam and best >= penalised_score(live[0][0], t, alpha)
        if full or best >= penalised_score(live[0][0], limit, alpha):
            break
    if finished:
        return max(finished, key=lambda hypothesis: hypothesis.score)
    total, tokens = live[0]
    return Hypothesis(tokens, total, penalised_score(total, limit, alpha), False)
