"""Greedy and beam search over a whole batch.

Shapes: B sentences still searched, K beams, N = B*K rows, V vocabulary, S source length.
"""

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from hourglass.model import Seq2Seq
from hourglass.tokenizer import BOS, EOS, PAD


@dataclass(frozen=True)
class SearchSettings:
    """The config group `search`.

    Attributes:
        beam: K; 1 is greedy search.
        length_penalty: alpha of Wu et al. 2016 (equation 14); 0 compares plain log-probabilities.
        output_ratio: output pieces allowed for each source piece; the limit grows with the source.
        output_extra: further output pieces allowed.
        output_most: an absolute limit, so that one absurd line cannot hold up all others.
        batch_tokens: source tokens of a batch (padded), times K.
    """

    beam: PositiveInt
    length_penalty: Annotated[float, Field(ge=0)]
    output_ratio: Annotated[float, Field(gt=0)]
    output_extra: PositiveInt
    output_most: PositiveInt
    batch_tokens: PositiveInt

    def limit(self, source_tokens: int) -> int:
        """Return how many pieces, end-of-sentence included, a source of so many tokens may get."""
        return min(math.ceil(self.output_ratio * source_tokens) + self.output_extra, self.output_most)


class Hypothesis(NamedTuple):
    """One translation."""

    tokens: list[int]  # without end-of-sentence
    log_probability: float  # of tokens and, where finished, end-of-sentence; nats
    score: float  # log_probability over the length penalty
    finished: bool  # False: cut at the limit


def length_penalty(length: int | Tensor, alpha: float) -> float | Tensor:
    """Return ((5 + length) / 6)^alpha (Wu et al. 2016, equation 14); length counts end-of-sentence."""
    return ((5 + length) / 6) ** alpha


@torch.inference_mode()
def search(model: Seq2Seq, source: Tensor, lengths: Tensor, settings: SearchSettings) -> list[Hypothesis]:
    """Find the best translation of each sentence.

    At each step the best K continuations of a sentence that do not end it stay; those among its best K that end it
    are finished. A sentence leaves the batch when K hypotheses have finished and the best live one, as it stands,
    scores below the best of them; when no live one can still beat the best finished one; or at its limit, where the
    best live one is taken if none has finished. With K = 1 this is greedy search.

    That K have finished is not enough: a model that is sure of every word leaves all else equally unlikely, an early
    end too, and K early ends fill the list while the one good translation is still being written.

    Args:
        model: in evaluation mode.
        source: ids [B, S].
        lengths: [B].
        settings: the search's.

    Returns:
        B hypotheses, in the order of the source.
    """
    beam, alpha, device = settings.beam, settings.length_penalty, source.device
    found: list[Hypothesis | None] = [None] * len(source)
    memory = model.encode(source, lengths)
    prepared = model.decoder.attention.prepare(memory)
    # Before the first step all K rows of a sentence are the same: only the first may be continued.
    state = model.decoder.start(memory).select(torch.arange(len(source), device=device).repeat_interleave(beam))
    live = torch.full((len(source), beam), -math.inf, device=device)  # [B, K] log-probabilities
    live[:, 0] = 0.0
    tokens = torch.full((len(source), beam, 1), BOS, device=device)  # [B, K, t+1]
    sentence = torch.arange(len(source), device=device)  # [B] index into the batch as given
    limit = torch.tensor([settings.limit(int(n)) for n in lengths], device=device)  # [B]
    finished = torch.zeros(len(source), dtype=torch.long, device=device)  # [B] how many
    best = torch.full((len(source),), -math.inf, device=device, dtype=torch.float64)  # [B] best finished score

    t = 0
    while len(sentence):
        output, state, _ = model.decoder.step(model.embedding(tokens[:, :, -1].flatten()), state, prepared, t)
        t += 1
        log_probabilities = model.output(output).float().log_softmax(-1).view(len(sentence), beam, -1)
        log_probabilities[..., [PAD, BOS]] = -math.inf  # Never part of a translation.
        total = live.unsqueeze(-1) + log_probabilities  # [B, K, V]
        vocabulary = total.shape[-1]
        # 2K, as at most K of them end the sentence: K that go on are always among them.
        score, flat = total.flatten(1).topk(min(2 * beam, beam * vocabulary), -1)
        origin, token = flat // vocabulary, flat % vocabulary
        ends = token == EOS

        # Finished: those of the best K that end.
        for b, k in (ends[:, :beam] & score[:, :beam].isfinite()).nonzero().tolist():
            candidate = float(score[b, k])
            normalised = candidate / float(length_penalty(t, alpha))
            finished[b] += 1
            if normalised > best[b]:
                best[b] = normalised
                ids = tokens[b, origin[b, k], 1:].tolist()
                found[int(sentence[b])] = Hypothesis(ids, candidate, normalised, True)

        # Live: the best K that do not.
        live, kept = score.masked_fill(ends, -math.inf).topk(beam, -1)
        origin, token = origin.gather(1, kept), token.gather(1, kept)
        tokens = torch.cat([tokens.gather(1, origin.unsqueeze(-1).expand(-1, -1, t)), token.unsqueeze(-1)], -1)

        # A live score only falls as it grows longer, while its penalty rises to that of the limit.
        reachable = live[:, 0].double() / length_penalty(limit, alpha)
        at_limit = t >= limit
        for b in (at_limit & (finished == 0)).nonzero().flatten().tolist():
            candidate = float(live[b, 0])
            normalised = candidate / float(length_penalty(t, alpha))
            found[int(sentence[b])] = Hypothesis(tokens[b, 0, 1:].tolist(), candidate, normalised, False)

        full = (finished >= beam) & (best >= live[:, 0].double() / length_penalty(t, alpha))
        stay = (~(at_limit | full | (best >= reachable))).nonzero().flatten()
        rows = (stay.unsqueeze(1) * beam + origin[stay]).flatten()
        state = state.select(rows)
        if len(stay) < len(sentence):
            prepared = prepared.select(stay)
            live, tokens, sentence, limit = live[stay], tokens[stay], sentence[stay], limit[stay]
            finished, best = finished[stay], best[stay]
    assert all(hypothesis is not None for hypothesis in found)
    return [hypothesis for hypothesis in found if hypothesis is not None]
