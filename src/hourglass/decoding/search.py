"""Greedy and beam search, n-best lists and drawing, over a whole batch, by one model or by several together.

Shapes: B sentences still searched, K beams (one before the first step), N = B*K rows, V vocabulary, S source length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.errors import UserError
from hourglass.models.attention import Attention, Prepared
from hourglass.models.decoder import State
from hourglass.models.seq2seq import Seq2Seq

# What a source position that got no attention at all counts for in the coverage penalty, whose logarithm has no end.
UNCOVERED = 1e-6


@dataclass(frozen=True)
class SearchSettings:
    """The config group `search`.

    Attributes:
        beam: K; 1 is greedy search.
        temperature: 0: search. Above: each piece is drawn from p^(1/temperature), and beam is 1.
        length_penalty: alpha of Wu et al. 2016 (equation 14); 0 compares plain log-probabilities.
        coverage_penalty: beta of Wu et al. 2016 (equation 14); 0: none.
        replace_unknown: whether an unknown word is written as the source word that it attended to most (Luong et al.
            2015, section 4.2); for word vocabularies.
        output_ratio: output pieces allowed for each source piece; the limit grows with the source.
        output_extra: further output pieces allowed.
        output_most: an absolute limit, so that one absurd line cannot hold up all others.
        batch_tokens: source tokens of a batch (padded), times K.

    Raises:
        UserError: options contradict each other.
    """

    beam: PositiveInt
    temperature: NonNegativeFloat
    length_penalty: Annotated[float, Field(ge=0)]
    coverage_penalty: NonNegativeFloat
    replace_unknown: bool
    output_ratio: Annotated[float, Field(gt=0)]
    output_extra: PositiveInt
    output_most: PositiveInt
    batch_tokens: PositiveInt

    def __post_init__(self) -> None:
        if self.temperature and self.beam > 1:
            raise UserError(
                f"search.temperature={self.temperature} draws one translation: set search.beam=1, or "
                "search.temperature=0"
            )

    @property
    def greedy(self) -> "SearchSettings":
        """These settings with a beam of 1, nothing drawn and nothing replaced: how dev is decoded in training."""
        return replace(self, beam=1, temperature=0.0, coverage_penalty=0.0, replace_unknown=False)

    def check_attention(self, attention: Attention) -> None:
        """See that these settings find the attention weights that they want.

        Raises:
            UserError: they do not.
        """
        for option, wanted in (("coverage_penalty", self.coverage_penalty), ("replace_unknown", self.replace_unknown)):
            if wanted and not attention.has_weights:
                off = "false" if option == "replace_unknown" else "0"
                raise UserError(
                    f"search.{option}={str(wanted).lower()} goes by attention weights and attention={attention.name} "
                    f"has none: set search.{option}={off}"
                )

    def check_words(self, pieces: str) -> None:
        """See that unknown words are not to be replaced where `pieces` of the vocabularies are not words.

        Raises:
            UserError: they are.
        """
        if self.replace_unknown and pieces != "word":
            raise UserError(
                f"search.replace_unknown=true puts whole words in, and tokenizer.model={pieces} has none: set "
                "search.replace_unknown=false, or train with tokenizer=word"
            )

    def limit(self, source_tokens: int) -> int:
        """Return how many pieces, end-of-sentence included, a source of so many tokens may get."""
        return min(math.ceil(self.output_ratio * source_tokens) + self.output_extra, self.output_most)


class Hypothesis(NamedTuple):
    """One translation."""

    tokens: list[int]  # without end-of-sentence
    log_probability: float  # of tokens and, where finished, end-of-sentence; nats
    score: float  # log_probability over the length penalty, plus the coverage penalty
    finished: bool  # False: cut at the limit
    attended: list[int] | None = None  # for each token the source position of the largest weight


def length_penalty(length: int | Tensor, alpha: float) -> float | Tensor:
    """Return ((5 + length) / 6)^alpha (Wu et al. 2016, equation 14); length counts end-of-sentence."""
    return ((5 + length) / 6) ** alpha


def coverage_penalty(coverage: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Return beta * sum over source positions of log(min(coverage, 1)) (Wu et al. 2016, equation 14).

    Args:
        coverage: the sum of a hypothesis' weights at each position, [..., S].
        mask: True at real positions, likewise; end-of-sentence is one.
        beta: 0: no penalty.
    """
    return beta * coverage.clamp(UNCOVERED, 1.0).log().masked_fill(~mask, 0.0).sum(-1)


def search(model: Seq2Seq, source: Tensor, lengths: Tensor, settings: SearchSettings) -> list[Hypothesis]:
    """Return the best translation of each sentence: `n_best` of one model with a list of one."""
    return [best for best, *_ in n_best([model], source, lengths, settings, 1)]


@torch.inference_mode()
def n_best(
    models: Sequence[Seq2Seq], source: Tensor, lengths: Tensor, settings: SearchSettings, count: int
) -> list[list[Hypothesis]]:
    """Find the best translations of each sentence.

    At each step the best K continuations of a sentence that do not end it stay; those among its best K that end it
    are finished. A sentence leaves the batch when K hypotheses have finished and the best live one, as it stands and
    coverage aside, scores below the last of the list (of `count`); when no live one can still get onto the list; or at
    its limit, where the best live ones are taken if too few have finished. With K = 1 this is greedy search.

    That K have finished is not enough: a model that is sure of every word leaves all else equally unlikely, an early
    end too, and K early ends fill the list while the one good translation is still being written.

    Args:
        models: in evaluation mode, of one vocabulary; the probability of a piece is the mean of theirs.
        source: ids [B, S].
        lengths: [B].
        settings: the search's.
        count: translations wanted of each sentence, at most K.

    Returns:
        B lists of `count` hypotheses or, where the vocabulary has no more to say, fewer, best first.
    """
    beam, alpha = settings.beam, settings.length_penalty
    found: list[list[Hypothesis]] = [[] for _ in range(len(source))]
    memories = [model.encode(source, lengths) for model in models]
    prepared = [model.decoder.attention.prepare(memory) for model, memory in zip(models, memories, strict=True)]
    states = [model.decoder.start(memory) for model, memory in zip(models, memories, strict=True)]
    now = _start(memories[0].mask, [settings.limit(int(n)) for n in lengths], settings)

    t = 0
    while len(now.sentence):
        predictions, states, weights = _step(models, now.tokens[:, :, -1].flatten(), states, prepared, t)
        t += 1
        width = now.live.shape[1]
        if weights is not None:
            weights = weights.view(*now.live.shape, -1)
            look = torch.cat([now.attended, weights.argmax(-1, keepdim=True)], -1)
            now = now._replace(attended=look)
            if settings.coverage_penalty:
                now = now._replace(coverage=now.coverage + weights)
        penalty = torch.zeros_like(now.live, dtype=torch.float64)  # [B, K]
        if settings.coverage_penalty:
            penalty += coverage_penalty(now.coverage, now.mask, settings.coverage_penalty)
        score, origin, token = _continue(now.live, predictions, settings)  # each [B, 2K]
        scored = score.double() / length_penalty(t, alpha) + penalty.gather(1, origin)
        ends = token == EOS

        # Finished: those of the best K that end.
        for b, k in (ends[:, :beam] & score[:, :beam].isfinite()).nonzero().tolist():
            tokens, attended = _row(now, b, int(origin[b, k]))
            one = Hypothesis(tokens, float(score[b, k]), float(scored[b, k]), True, attended)
            best = _keep(found[int(now.sentence[b])], one, count)
            now.finished[b] += 1
            if len(best) == count:
                now.worst[b] = best[-1].score

        # Live: the best K that do not.
        live, kept = score.masked_fill(ends, -math.inf).topk(min(beam, score.shape[1]), -1)
        origin, token = origin.gather(1, kept), token.gather(1, kept)
        now = now._replace(
            live=live,
            tokens=torch.cat([_of_rows(now.tokens, origin), token.unsqueeze(-1)], -1),
            attended=_of_rows(now.attended, origin),
            coverage=_of_rows(now.coverage, origin),
        )
        standing = live.double() / length_penalty(t, alpha) + penalty.gather(1, origin)  # [B, K]

        at_limit = t >= now.limit
        for b in (at_limit & now.worst.isinf()).nonzero().flatten().tolist():
            best = found[int(now.sentence[b])]
            for k in standing[b].argsort(descending=True).tolist():
                if len(best) < count and live[b, k].isfinite():
                    tokens, attended = _row(now, b, k)
                    _keep(best, Hypothesis(tokens, float(live[b, k]), float(standing[b, k]), False, attended), count)

        # A live score only falls as it grows longer, while its penalties rise to that of the limit and to nothing. So
        # what a live one lacks in coverage so far is not held against it.
        reachable = live[:, 0].double() / length_penalty(now.limit, alpha)
        full = (now.finished >= beam) & (now.worst >= live[:, 0].double() / length_penalty(t, alpha))
        leave = at_limit | full | (now.worst >= reachable) | live[:, 0].isinf()
        stay = _close_up(leave)
        rows = (stay.unsqueeze(1) * width + origin[stay]).flatten()
        states = [state.select(rows) for state in states]
        if len(stay) < len(now.sentence):
            prepared = [one.close_up(stay) for one in prepared]
            now = _Beams(*(part[stay] for part in now))
    # Nothing can be said by a model whose weights are no numbers any more.
    return [best or [Hypothesis([], -math.inf, -math.inf, False)] for best in found]


class _Beams(NamedTuple):
    """Where a search stands: B sentences of K rows."""

    sentence: Tensor  # [B] index into the batch as given
    mask: Tensor  # [B, 1, S] of the source
    limit: Tensor  # [B] pieces
    live: Tensor  # [B, K] log-probabilities
    tokens: Tensor  # [B, K, t+1]
    attended: Tensor  # [B, K, t] source positions; [B, K, 0] without weights
    coverage: Tensor  # [B, K, S] sums of weights; [B, K, 0] where nothing is made of them
    finished: Tensor  # [B] how many
    worst: Tensor  # [B] the last score of a full list; -inf before


def _start(mask: Tensor, limits: list[int], settings: SearchSettings) -> _Beams:
    count, longest = mask.shape
    live = torch.zeros(count, 1, device=mask.device)
    tokens = torch.full((count, 1, 1), BOS, device=mask.device)
    return _Beams(
        sentence=torch.arange(count, device=mask.device),
        mask=mask.unsqueeze(1),
        limit=torch.tensor(limits, device=mask.device),
        live=live,
        tokens=tokens,
        attended=tokens[..., 1:],
        coverage=live.new_zeros(count, 1, longest if settings.coverage_penalty else 0),
        finished=torch.zeros(count, dtype=torch.long, device=mask.device),
        worst=torch.full((count,), -math.inf, device=mask.device, dtype=torch.float64),
    )


def _continue(live: Tensor, predictions: Tensor, settings: SearchSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best 2K continuations, the best one or the one drawn: score, row of origin and piece, each [B, 2K]."""
    predictions = predictions.view(*live.shape, -1)  # [B, K, V]
    vocabulary = predictions.shape[-1]
    predictions[..., [PAD, BOS]] = -math.inf  # Never part of a translation.
    if settings.temperature:
        piece = torch.multinomial((predictions[:, 0] / settings.temperature).softmax(-1), 1)
        return live + predictions[:, 0].gather(1, piece), torch.zeros_like(piece), piece
    if settings.beam == 1 and not settings.coverage_penalty:
        # Nothing is held against an end but its probability: if the best one ends, that is the translation.
        top, piece = predictions[:, 0].max(-1, keepdim=True)
        return live + top, torch.zeros_like(piece), piece
    total = (live.unsqueeze(-1) + predictions).flatten(1)
    # 2K, as at most K of them end the sentence: K that go on are always among them.
    score, flat = total.topk(min(2 * settings.beam, total.shape[1]), -1)
    return score, flat // vocabulary, flat % vocabulary


def _close_up(leave: Tensor) -> Tensor:
    """Return who stays, [B'], of those who do not `leave` [B]: who is after the first B' takes a leaver's place.

    All others keep their places, so that little of the memory is copied.
    """
    left = len(leave) - int(leave.sum())
    stay = torch.arange(left, device=leave.device)
    stay[leave[:left]] = (~leave[left:]).nonzero().flatten() + left
    return stay


def _row(now: _Beams, b: int, k: int) -> tuple[list[int], list[int] | None]:
    """Return the pieces of row k of sentence b, and what each attended to."""
    tokens = now.tokens[b, k, 1:].tolist()
    return tokens, now.attended[b, k, : len(tokens)].tolist() if now.attended.shape[-1] else None


def _keep(best: list[Hypothesis], one: Hypothesis, count: int) -> list[Hypothesis]:
    """Put one onto a list of at most `count`, finished ones first."""
    best.append(one)
    best.sort(key=lambda hypothesis: (-hypothesis.finished, -hypothesis.score))
    del best[count:]
    return best


def _step(
    models: Sequence[Seq2Seq], last: Tensor, states: list[State], prepared: list[Prepared], t: int
) -> tuple[Tensor, list[State], Tensor | None]:
    """Advance all models by one piece: log-probabilities [N, V] and weights [N, S], both of the mean over models."""
    pieces, rows = last.unique(return_inverse=True)  # Many rows say the same word.
    predictions, after, looks = [], [], []
    for model, state, memory in zip(models, states, prepared, strict=True):
        output, state_after, weights = model.decoder.step(model.embedding(pieces), state, memory, t, rows=rows)
        scores = model.output(output)
        predictions.append(scores.to(torch.promote_types(scores.dtype, torch.float32)).log_softmax(-1))
        after.append(state_after)
        if weights is not None:
            looks.append(weights.to(torch.promote_types(weights.dtype, torch.float32)))
    mean = predictions[0]
    if len(models) > 1:
        mean = torch.stack(predictions).logsumexp(0) - math.log(len(models))
    return mean, after, torch.stack(looks).mean(0) if looks else None


def _of_rows(values: Tensor, origin: Tensor) -> Tensor:
    """Take [B, K, ...] in the order of rows `origin` [B, K]."""
    return values.gather(1, origin.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
